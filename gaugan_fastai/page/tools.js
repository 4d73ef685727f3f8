// The tools. Each answers to press, move and release at a pixel of the map; none needs a drag.

import {Grid, flood, footprint, polygon, stroke} from './raster.js'

const near = (p, q, d) => Math.abs(p[0] - q[0]) <= d && Math.abs(p[1] - q[1]) <= d

class Tool {
  constructor(desk) { this.desk = desk }
  get id() { return this.desk.cls }
  get brush() { return footprint(this.desk.shape, this.desk.size) }
  press() {}
  move() {}
  release() {}
  finish() {}
  back() { return false }     // takes back a part of what is begun
  cancel() {}
  retract() {}                // the press was the first finger of two
  preview() {}                // draws on a map of its own what a press would do
}

class Brush extends Tool {
  get down() { return Boolean(this.desk.before) }   // is a stroke begun?

  press(p, {shift = false} = {}) {
    if (this.down) return this.#lift(p)
    this.desk.begin()
    this.#to(shift && this.last ? this.last : p, p)
  }

  move(p) { if (this.down) this.#to(this.last, p) }

  release() {
    if (this.down && !this.desk.sticky) this.finish()
  }

  finish() {
    if (this.down) this.desk.end()
  }

  cancel() { this.desk.cancel() }
  retract() { this.cancel() }
  preview(grid, p) { stroke(grid, p, p, this.brush, this.id) }

  #lift(p) {
    this.#to(this.last, p)
    this.finish()
  }

  #to(from, p) {
    stroke(this.desk.grid, from, p, this.brush, this.id)
    this.last = p
    this.desk.tell('map')
  }
}

class Eraser extends Brush {
  get id() { return this.desk.background }
}

class Line extends Tool {
  press(p) {
    this.fresh = !this.start
    this.start ??= p
  }

  release(p) {
    const dragged = this.start && !near(this.start, p, 2)
    if (this.start && (dragged || !this.fresh)) this.#draw(p)
  }

  cancel() { this.start = null }
  retract() { if (this.fresh) this.cancel() }
  preview(grid, p) { stroke(grid, this.start ?? p, p, this.brush, this.id) }

  #draw(p) {
    const {desk, start} = this
    this.start = null
    desk.begin()
    stroke(desk.grid, start, p, this.brush, this.id)
    desk.tell('map')
    desk.end()
  }
}

class Polygon extends Tool {
  points = []

  release(p) {
    const closed = this.points.length > 2 && near(p, this.points[0], 3)
    const twice = this.points.length > 1 && near(p, this.points.at(-1), 1)
    if (closed || twice) return this.finish()
    this.points.push(p)
  }

  finish() {
    const {desk, points} = this
    this.points = []
    if (points.length < 2) return
    desk.begin()
    polygon(desk.grid, points, this.id)
    desk.tell('map')
    desk.end()
  }

  back() { return Boolean(this.points.pop()) }
  cancel() { this.points = [] }
  preview(grid, p) { polygon(grid, [...this.points, p], this.id) }
}

class Fill extends Tool {
  release(p) {
    if (!this.desk.grid.has(...p)) return
    this.desk.begin()
    flood(this.desk.grid, p, this.id)
    this.desk.tell('map')
    this.desk.end()
  }
}

class Picker extends Tool {
  release(p) {
    const {desk} = this
    if (desk.grid.has(...p)) desk.choose({cls: desk.grid.at(...p), tool: desk.beforePicker ?? 'brush'})
  }
}

class Hand extends Tool {}   // moves the view: pointer.js does it

export class Tools {
  constructor(desk) {
    this.desk = desk
    const kinds = {brush: Brush, eraser: Eraser, line: Line, polygon: Polygon, fill: Fill, picker: Picker, hand: Hand}
    this.all = Object.fromEntries(Object.entries(kinds).map(([name, Kind]) => [name, new Kind(desk)]))
  }

  get now() { return this.all[this.desk.tool] }

  // Change the tool; what was begun with the old one is finished or let go, never lost
  take(name) {
    if (!this.all[name] || name === this.desk.tool) return
    if (this.now instanceof Brush) this.now.finish()
    else this.now.cancel()
    if (name === 'picker') this.desk.beforePicker = this.desk.tool
    this.desk.choose({tool: name})
  }

  // The map that a press at p would make of an empty one, 255 where it changes nothing
  preview(p) {
    const {w, h} = this.desk.grid, grid = new Grid(w, h, new Uint8Array(w * h).fill(255))
    if (p) this.now.preview(grid, p)
    return grid
  }
}
