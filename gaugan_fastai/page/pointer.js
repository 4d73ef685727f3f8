// Mouse, pen, fingers and arrow keys on the panes: one pointer paints, two fingers move the view or, tapped, undo.

const TAP = 300, STILL = 12   // milliseconds and pixels of the screen of a tap

export class Pointer {
  fingers = new Map()
  gesture = null         // of two fingers
  drag = null            // of the view by one pointer
  space = false

  constructor(desk, tools, view, undo) {
    Object.assign(this, {desk, tools, view, undo})
    for (const pane of Object.values(view.panes)) this.#listen(pane)
    addEventListener('keyup', e => { if (e.code === 'Space') this.space = false })
    addEventListener('blur', () => { this.space = false })
  }

  #listen(pane) {
    const on = (event, act) => pane.addEventListener(event, act.bind(this), {passive: false})
    on('pointerdown', this.#down)
    on('pointermove', this.#move)
    on('pointerup', this.#up)
    on('pointercancel', this.#lost)
    on('pointerleave', this.#leave)
    on('wheel', this.#wheel)
    on('keydown', this.#key)
    on('blur', () => this.view.point(null))
    on('contextmenu', e => e.preventDefault())
  }

  #pixel(e) { return this.view.pixel(this.view.place(e)) }

  #down(e) {
    e.target.setPointerCapture(e.pointerId)
    this.fingers.set(e.pointerId, e)
    if (this.fingers.size === 2) return this.#pinch()
    if (this.fingers.size > 2) return
    const moves = this.desk.tool === 'hand' || this.space || e.button === 1
    if (moves) this.drag = {first: e, last: e}
    else if (e.button === 0) this.tools.now.press(this.#pixel(e), {shift: e.shiftKey})
    this.pressed = !moves && e.button === 0
    this.view.point(moves ? null : this.#pixel(e))
  }

  #move(e) {
    if (this.fingers.has(e.pointerId)) this.fingers.set(e.pointerId, e)
    if (this.gesture) return this.#pinched()
    if (this.drag) return this.#pan(e)
    const events = e.getCoalescedEvents?.() ?? []
    for (const o of events.length ? events : [e]) this.tools.now.move(this.#pixel(target(o, e)))
    this.byKeys = false
    this.view.point(this.desk.tool === 'hand' ? null : this.#pixel(e))
  }

  #up(e) {
    this.fingers.delete(e.pointerId)
    if (this.gesture) return this.#unpinch()
    if (this.drag) this.#dropped(e)
    else if (this.pressed) this.tools.now.release(this.#pixel(e))
    this.drag = null
    this.pressed = false
    if (e.pointerType !== 'mouse') this.view.point(null)
  }

  #lost(e) {
    this.fingers.delete(e.pointerId)
    this.tools.now.retract()
    this.drag = this.gesture = null
    this.pressed = false
  }

  #leave() { if (!this.fingers.size) this.view.point(null) }

  // One pointer moves the view; a click alone brings its place to the middle
  #pan(e) {
    const box = e.target.getBoundingClientRect(), {last} = this.drag
    this.drag.last = e
    this.view.pan((last.clientX - e.clientX) / box.width, (last.clientY - e.clientY) / box.height)
  }

  #dropped(e) {
    const {first} = this.drag
    if (apart(first, e) < STILL / 3) this.view.look(this.view.zoom, this.view.place(e))
  }

  #pinch() {
    this.tools.now.retract()
    this.pressed = false
    this.drag = null
    const [a, b] = this.fingers.values()
    this.gesture = {began: performance.now(), from: [a, b], last: [a, b], still: true}
  }

  #pinched() {
    if (this.fingers.size < 2) return
    const [a, b] = this.fingers.values(), {last: [c, d], from} = this.gesture
    this.gesture.still &&= apart(a, from[0]) < STILL && apart(b, from[1]) < STILL
    this.gesture.last = [a, b]
    if (this.gesture.still) return
    const box = a.target.getBoundingClientRect(), mean = (p, q, k) => (p[k] + q[k]) / 2
    const dx = mean(c, d, 'clientX') - mean(a, b, 'clientX'), dy = mean(c, d, 'clientY') - mean(a, b, 'clientY')
    this.view.pan(dx / box.width, dy / box.height)
    const middle = {target: a.target, clientX: mean(a, b, 'clientX'), clientY: mean(a, b, 'clientY')}
    this.view.zoomAt(apart(a, b) / Math.max(1, apart(c, d)), this.view.place(middle))
  }

  #unpinch() {
    if (this.fingers.size) return
    const {still, began} = this.gesture
    this.gesture = null
    this.view.point(null)
    if (still && performance.now() - began < TAP) this.undo()
  }

  // Ctrl and the wheel zoom, as does a pinch on a trackpad; the wheel alone moves what is zoomed
  #wheel(e) {
    const {view} = this, box = e.target.getBoundingClientRect()
    if (e.ctrlKey || e.metaKey) view.zoomAt(Math.exp(-e.deltaY / 300), view.place(e))
    else if (view.zoom > 1) view.pan(e.deltaX / box.width, e.deltaY / box.height)
    else return
    e.preventDefault()
  }

  #key(e) {
    const {view, tools, desk} = this
    const way = {ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1]}[e.key]
    if (way) {
      const step = e.shiftKey ? 8 : 1, {w, h} = desk.grid, [x, y] = view.pointer ?? [w >> 1, h >> 1]
      const p = [Math.min(w - 1, Math.max(0, x + step * way[0])), Math.min(h - 1, Math.max(0, y + step * way[1]))]
      this.byKeys = true
      tools.now.move(p)
      view.point(p)
      desk.tell('said', `${p[0]}, ${p[1]}: ${desk.names[desk.grid.at(...p)]}`)
    } else if (e.key === 'Enter' && !e.ctrlKey) this.#enter(e)
    else if (e.code === 'Space') this.space = true
    else return
    e.preventDefault()
  }

  // Use the tool at the cross; a polygon that the mouse began is closed
  #enter(e) {
    const {view, tools, byKeys} = this
    if (!byKeys && tools.now.points?.length) return tools.now.finish()
    if (!view.pointer) return
    tools.now.press(view.pointer, {shift: e.shiftKey})
    tools.now.release(view.pointer)
  }
}

const apart = (a, b) => Math.hypot(a.clientX - b.clientX, a.clientY - b.clientY)
const target = (event, of) => ({target: of.target, clientX: event.clientX, clientY: event.clientY})
