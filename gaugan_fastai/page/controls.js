// Buttons, sliders and keys that act on the desk and on the view.

import {Keys} from './keys.js'
import {byId} from './dom.js'
import {Grid} from './raster.js'

const HINTS = {
  line: 'click where it starts and where it ends',
  polygon: 'click the corners, then the first one again',
  fill: 'click an area', picker: 'click to pick a class', hand: 'drag, or click the point to centre',
}

const click = (id, act) => byId(id).addEventListener('click', act)
const input = (id, act) => byId(id).addEventListener('input', e => act(e.target))

export class Controls {
  constructor(desk, tools, view, {palette, files, undo, redo}) {
    Object.assign(this, {desk, tools, view})
    byId('tools').addEventListener('change', e => tools.take(e.target.value))
    byId('shapes').addEventListener('change', e => desk.choose({shape: e.target.value}))
    byId('views').addEventListener('change', () => this.#lay())
    this.#sliders()
    this.#buttons(undo, redo)
    desk.on('choice', () => this.#mark())
    desk.on('step', () => this.#mark())
    const does = {
      undo, redo, fit: () => view.fit(), zoom: k => view.zoomAt(k), view: () => this.#other(),
      cls: n => palette.take(n), size: k => this.#size(k),
      open: () => files.open(), saveProject: () => files.saveProject(),
    }
    new Keys(tools, does)
    this.#lay()
    this.#mark()
  }

  #sliders() {
    const {desk} = this
    input('size', o => desk.choose({size: Number(o.value)}))
    input('seed', o => desk.choose({seed: Number(o.value)}))
    input('seed-number', o => o.value !== '' && o.checkValidity() && desk.choose({seed: Number(o.value)}))
    input('sticky', o => desk.choose({sticky: o.checked}))
    input('veil', () => this.#lay())
  }

  #buttons(undo, redo) {
    const {desk, view} = this
    click('undo', undo)
    click('redo', redo)
    click('zoom-in', () => view.zoomAt(1.5))
    click('zoom-out', () => view.zoomAt(1 / 1.5))
    click('fit', () => view.fit())
    click('help', () => byId('keys').showModal())
    click('dice', () => desk.choose({seed: Math.floor(Math.random() * 201)}))
    click('clear', () => this.#clear())
  }

  #clear() {
    const {desk} = this, {w, h} = desk.grid
    desk.put(new Grid(w, h, new Uint8Array(w * h).fill(desk.background)))
  }

  // A larger or smaller brush, in steps that grow with it
  #size(way) {
    const {size} = this.desk, step = Math.max(1, Math.round(size / 6))
    this.desk.choose({size: Math.min(64, Math.max(1, size + way * step))})
  }

  #other() {
    const [now] = byId('views').querySelectorAll('input:not(:checked)')
    now.checked = true
    this.#lay()
  }

  // Side by side, or the map over the picture as far as the slider says
  #lay() {
    const over = byId('views').querySelector('input:checked').value === 'over'
    byId('stage').classList.toggle('over', over)
    document.body.classList.toggle('overlaid', over)
    byId('map').style.opacity = over ? byId('veil').value / 100 : 1
    this.view.draw()
  }

  #mark() {
    const {desk} = this
    const check = (name, value) => { document.querySelector(`input[name=${name}][value=${value}]`).checked = true }
    check('tool', desk.tool)
    check('shape', desk.shape)
    byId('size').value = byId('size-now').value = desk.size
    byId('seed').value = desk.seed
    if (document.activeElement !== byId('seed-number')) byId('seed-number').value = desk.seed
    byId('sticky').checked = desk.sticky
    byId('hint').textContent = HINTS[desk.tool] ?? ''
    byId('undo').disabled = !desk.history.past.length
    byId('redo').disabled = !desk.history.future.length
  }
}
