// Undo and redo: what a stroke changed, kept as the box around it before and after.

const STEPS = 200

// The smallest box that holds all pixels in which two maps of one size differ; null where none does
function changed(a, b) {
  let x0 = a.w, y0 = a.h, x1 = -1, y1 = -1
  for (let y = 0, i = 0; y < a.h; y++) {
    for (let x = 0; x < a.w; x++, i++) {
      if (a.ids[i] === b.ids[i]) continue
      x0 = Math.min(x0, x); x1 = Math.max(x1, x); y0 = Math.min(y0, y); y1 = y
    }
  }
  return x1 < 0 ? null : {x: x0, y: y0, w: x1 - x0 + 1, h: y1 - y0 + 1}
}

function cut(grid, {x, y, w, h}) {
  const res = new Uint8Array(w * h)
  for (let i = 0; i < h; i++) res.set(grid.ids.subarray((y + i) * grid.w + x, (y + i) * grid.w + x + w), i * w)
  return res
}

function paste(grid, {x, y, w, h}, part) {
  for (let i = 0; i < h; i++) grid.ids.set(part.subarray(i * w, (i + 1) * w), (y + i) * grid.w + x)
}

// A stroke: what was in its box before and after
export class Patch {
  constructor(box, before, after) { Object.assign(this, {box, before, after}) }

  // The step from one map to another; null where they are the same
  static between(before, after) {
    const box = changed(before, after)
    return box && new Patch(box, cut(before, box), cut(after, box))
  }

  undo(desk) { paste(desk.grid, this.box, this.before); desk.tell('map') }
  redo(desk) { paste(desk.grid, this.box, this.after); desk.tell('map') }
}

// Another map or another model: all that `desk.state()` gives
export class Swap {
  constructor(before, after) { Object.assign(this, {before, after}) }
  undo(desk) { desk.restore(this.before) }
  redo(desk) { desk.restore(this.after) }
}

export class History {
  past = []
  future = []

  push(step) {
    this.past.push(step)
    if (this.past.length > STEPS) this.past.shift()
    this.future = []
  }

  undo(desk) { return this.#go(this.past, this.future, step => step.undo(desk)) }
  redo(desk) { return this.#go(this.future, this.past, step => step.redo(desk)) }

  #go(from, to, act) {
    const step = from.pop()
    if (!step) return false
    to.push(step)
    act(step)
    return true
  }
}
