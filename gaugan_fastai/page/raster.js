// Drawing on a map of class ids with whole numbers: a pixel is one class or another, never between two.

export class Grid {
  constructor(w, h, ids = new Uint8Array(w * h)) { Object.assign(this, {w, h, ids}) }
  copy() { return new Grid(this.w, this.h, this.ids.slice()) }
  has(x, y) { return x >= 0 && y >= 0 && x < this.w && y < this.h }
  at(x, y) { return this.ids[y * this.w + x] }
  same(other) { return this.w === other.w && this.h === other.h && this.ids.every((id, i) => id === other.ids[i]) }
}

// Paint the pixels x0..x1 of row y, as far as they lie on the map
function row(grid, y, x0, x1, id) {
  if (y < 0 || y >= grid.h || x1 < 0 || x0 >= grid.w) return
  grid.ids.fill(id, y * grid.w + Math.max(x0, 0), y * grid.w + Math.min(x1, grid.w - 1) + 1)
}

const inside = {
  round: (x, y, d) => x * x + y * y <= d * d,
  square: () => true,
  slanted: (x, y, d) => Math.abs(x + y) <= Math.max(1, d >> 2),
}

// The rows [dy, dx0, dx1] that a brush covers around its pixel; tested in half pixels, so an even size has a middle too
export function footprint(shape, size) {
  const lo = -((size - 1) >> 1), hi = size >> 1, rows = []
  for (let dy = lo; dy <= hi; dy++) {
    const xs = []
    for (let dx = lo; dx <= hi; dx++) if (inside[shape](2 * dx - lo - hi, 2 * dy - lo - hi, size)) xs.push(dx)
    if (xs.length) rows.push([dy, xs[0], xs.at(-1)])
  }
  return rows
}

// Bresenham's line: every pixel from p to q, both included
export function* pixels([x, y], [x1, y1]) {
  const dx = Math.abs(x1 - x), dy = -Math.abs(y1 - y), sx = x < x1 ? 1 : -1, sy = y < y1 ? 1 : -1
  let error = dx + dy
  while (true) {
    yield [x, y]
    if (x === x1 && y === y1) return
    const twice = 2 * error
    if (twice >= dy) { error += dy; x += sx }
    if (twice <= dx) { error += dx; y += sy }
  }
}

// Draw a straight stroke with a brush, the rows of `footprint`
export function stroke(grid, p, q, brush, id) {
  for (const [x, y] of pixels(p, q)) for (const [dy, x0, x1] of brush) row(grid, y + dy, x + x0, x + x1, id)
}

// Fill a polygon by the even-odd rule at the middle of each pixel, its border included
export function polygon(grid, points, id) {
  const edges = points.map((p, i) => [p, points[(i + 1) % points.length]])
  for (let y = 0; y < grid.h; y++) {
    const cuts = edges.filter(([a, b]) => (a[1] <= y) !== (b[1] <= y))
      .map(([a, b]) => a[0] + (y - a[1]) * (b[0] - a[0]) / (b[1] - a[1])).sort((a, b) => a - b)
    for (let i = 0; i + 1 < cuts.length; i += 2) row(grid, y, Math.ceil(cuts[i]), Math.floor(cuts[i + 1]), id)
  }
  for (const [a, b] of edges) stroke(grid, a, b, [[0, 0, 0]], id)
}

// Give the patch of one class around (x, y) another id, by whole runs of a row
export function flood(grid, [x, y], id) {
  const {w, h, ids} = grid, from = grid.at(x, y), todo = [[x, y]]
  if (from === id) return
  while (todo.length) {
    const [px, py] = todo.pop(), start = py * w
    if (ids[start + px] !== from) continue
    let x0 = px, x1 = px
    while (x0 > 0 && ids[start + x0 - 1] === from) x0--
    while (x1 < w - 1 && ids[start + x1 + 1] === from) x1++
    ids.fill(id, start + x0, start + x1 + 1)
    for (const ny of [py - 1, py + 1]) {
      if (ny < 0 || ny >= h) continue
      for (let nx = x0; nx <= x1; nx++) {
        const seen = nx > x0 && ids[ny * w + nx - 1] === from
        if (ids[ny * w + nx] === from && !seen) todo.push([nx, ny])
      }
    }
  }
}

// The same map at another size, each pixel from its nearest one
export function resized(grid, w, h) {
  if (grid.w === w && grid.h === h) return grid.copy()
  const res = new Grid(w, h)
  for (let y = 0; y < h; y++) {
    const from = Math.floor((y + .5) * grid.h / h) * grid.w
    for (let x = 0; x < w; x++) res.ids[y * w + x] = grid.ids[from + Math.floor((x + .5) * grid.w / w)]
  }
  return res
}

const key = name => name.normalize('NFKC').toLowerCase().trim()

// A map in the classes of another model, matched by name: the new map, and the names that have no partner
export function translated(grid, names, others, instead = 0) {
  const partner = new Map(others.map((name, id) => [key(name), id]))
  const table = names.map(name => partner.get(key(name)))
  const lost = [...new Set(grid.ids)].filter(id => table[id] === undefined)
  const ids = grid.ids.map(id => table[id] ?? instead)
  return {grid: new Grid(grid.w, grid.h, ids), lost: lost.map(id => names[id] ?? `class ${id}`)}
}
