// The two panes, map and picture, seen through one window: what is zoomed in one is zoomed in the other.

const FAR = 32   // the largest zoom

function paint(canvas, grid, colours) {
  const ctx = canvas.getContext('2d'), image = new ImageData(grid.w, grid.h)
  const out = new Uint32Array(image.data.buffer)
  for (let i = 0; i < out.length; i++) out[i] = colours[grid.ids[i]]
  Object.assign(canvas, {width: grid.w, height: grid.h})
  ctx.putImageData(image, 0, 0)
}

// '#rrggbb' of each class as the 32 bits of a pixel; ids without a class are clear
function pixels(classes) {
  const res = new Uint32Array(256), little = new Uint8Array(new Uint32Array([1]).buffer)[0] === 1
  for (const {id, color} of classes) {
    const [r, g, b] = [1, 3, 5].map(i => parseInt(color.slice(i, i + 2), 16))
    res[id] = little ? (255 << 24 | b << 16 | g << 8 | r) >>> 0 : (r << 24 | g << 16 | b << 8 | 255) >>> 0
  }
  return res
}

export class View {
  zoom = 1
  middle = [0.5, 0.5]     // of the window, as a part of the map's size
  picture = null          // an ImageBitmap
  pointer = null          // the pixel under the pointer or the keys
  #map = document.createElement('canvas')
  #ghost = document.createElement('canvas')
  #planned = false

  constructor(desk, tools, panes) {
    Object.assign(this, {desk, tools, panes})
    const again = new ResizeObserver(() => this.draw())
    for (const pane of Object.values(panes)) again.observe(pane)
    desk.on('map', () => this.draw())
    desk.on('choice', () => this.draw())
    desk.on('model', () => this.#fresh())
    matchMedia('(prefers-color-scheme: dark)').addEventListener('change', () => this.draw())
  }

  #fresh() {
    this.colours = pixels(this.desk.classes)
    this.fit()
  }

  show(picture) {
    this.picture?.close()
    this.picture = picture
    this.draw()
  }

  fit() { this.look(1, [0.5, 0.5]) }

  // Look at the place `middle` at a zoom, as far as the map reaches
  look(zoom, middle) {
    this.zoom = Math.min(FAR, Math.max(1, zoom))
    const edge = 0.5 / this.zoom
    this.middle = middle.map(o => Math.min(1 - edge, Math.max(edge, o)))
    this.draw()
    this.desk.tell('view')
  }

  // Zoom about a place of the screen, which stays where it is
  zoomAt(factor, place) {
    const zoom = Math.min(FAR, Math.max(1, this.zoom * factor))
    const at = place ?? this.middle, k = this.zoom / zoom
    this.look(zoom, this.middle.map((o, i) => at[i] + (o - at[i]) * k))
  }

  // Move by a part of what is seen
  pan(dx, dy) { this.look(this.zoom, [this.middle[0] + dx / this.zoom, this.middle[1] + dy / this.zoom]) }

  // Where an event lies, as a part of the map's size
  place(event) {
    const box = event.target.getBoundingClientRect()
    const part = [(event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height]
    return part.map((o, i) => this.middle[i] + (o - 0.5) / this.zoom)
  }

  // The pixel of the map at a place
  pixel([x, y]) { return [Math.floor(x * this.desk.grid.w), Math.floor(y * this.desk.grid.h)] }

  point(pixel) {
    this.pointer = pixel
    this.draw()
  }

  // Draw with the next frame
  draw() {
    if (this.#planned || !this.colours) return
    this.#planned = true
    requestAnimationFrame(() => {
      this.#planned = false
      this.#draw()
    })
  }

  #draw() {
    paint(this.#map, this.desk.grid, this.colours)
    paint(this.#ghost, this.tools.preview(this.pointer), this.colours)
    this.#pane(this.panes.picture, ctx => this.picture && this.#place(ctx, this.picture, true))
    this.#pane(this.panes.map, ctx => this.#place(ctx, this.#map, false))
    for (const pane of Object.values(this.panes)) this.#over(pane)
  }

  #pane(canvas, draw) {
    const k = devicePixelRatio, w = Math.round(canvas.clientWidth * k), h = Math.round(canvas.clientHeight * k)
    if (canvas.width !== w || canvas.height !== h) Object.assign(canvas, {width: w, height: h})
    const ctx = canvas.getContext('2d')
    ctx.clearRect(0, 0, w, h)
    draw(ctx)
  }

  #place(ctx, what, smooth) {
    const {width: w, height: h} = ctx.canvas, {zoom, middle} = this
    ctx.imageSmoothingEnabled = smooth
    ctx.imageSmoothingQuality = 'high'
    ctx.drawImage(what, w * (0.5 - middle[0] * zoom), h * (0.5 - middle[1] * zoom), w * zoom, h * zoom)
  }

  // What the tool would paint, half clear, and a frame around it that is seen on any colour
  #over(canvas) {
    if (!this.pointer) return
    const ctx = canvas.getContext('2d')
    ctx.globalAlpha = 0.6
    this.#place(ctx, this.#ghost, false)
    ctx.globalAlpha = 1
    this.#cross(ctx)
  }

  #cross(ctx) {
    const {w, h} = this.desk.grid, {width, height} = ctx.canvas, {zoom, middle, pointer} = this
    const k = devicePixelRatio
    const x = width * (0.5 + ((pointer[0] + 0.5) / w - middle[0]) * zoom)
    const y = height * (0.5 + ((pointer[1] + 0.5) / h - middle[1]) * zoom)
    for (const [colour, wide] of [['#000', 3], ['#fff', 1]]) {
      ctx.strokeStyle = colour
      ctx.lineWidth = wide * k
      ctx.beginPath()
      ctx.arc(x, y, 3 * k, 0, 2 * Math.PI)
      ctx.stroke()
    }
  }
}
