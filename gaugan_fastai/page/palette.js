// The classes: the one in hand, the one behind the eraser, a search where there are many.

import {byId, element, reveal} from './dom.js'

const FEW = 24, LONG = 14

export class Palette {
  constructor(desk) {
    this.desk = desk
    byId('palette').addEventListener('change', e => desk.choose({cls: Number(e.target.value)}))
    byId('background').addEventListener('change', e => desk.choose({background: Number(e.target.value)}))
    byId('search').addEventListener('input', () => this.#search())
    desk.on('model', () => this.#fill())
    desk.on('choice', () => this.#mark())
  }

  // Take the nth of the classes that are listed
  take(n) {
    const found = this.#shown()[n]
    if (found) this.desk.choose({cls: Number(found.querySelector('input').value)})
  }

  #shown() { return [...byId('palette').querySelectorAll('label')].filter(o => !o.hidden) }

  #fill() {
    const {classes} = this.desk, search = byId('search')
    search.hidden = classes.length <= FEW
    search.value = ''
    for (const old of byId('palette').querySelectorAll('label')) old.remove()
    byId('palette').append(...classes.map((c, i) => this.#entry(c, i)))
    byId('palette').classList.toggle('long', classes.some(c => c.name.length > LONG))
    byId('class-count').textContent = classes.length
    const options = classes.map(({id, name}) => element('option', {value: id, textContent: name}))
    byId('background').replaceChildren(...options)
    this.#mark()
  }

  #entry({id, name, color}, i) {
    const radio = element('input', {type: 'radio', name: 'class', value: id})
    const swatch = element('span', {className: 'swatch'})
    swatch.style.background = color
    const key = i < 9 ? [element('kbd', {textContent: i + 1, ariaHidden: 'true'})] : []
    const words = element('span', {className: 'name', textContent: name})
    return element('label', {title: name}, radio, swatch, words, ...key)
  }

  #mark() {
    const {cls, background} = this.desk
    for (const o of byId('palette').querySelectorAll('input')) o.checked = Number(o.value) === cls
    reveal(byId('palette').querySelector('label:has(input:checked)'), byId('palette'))
    byId('background').value = background
  }

  #search() {
    const wanted = byId('search').value.trim().toLowerCase()
    for (const label of byId('palette').querySelectorAll('label'))
      label.hidden = !label.title.toLowerCase().includes(wanted)
  }
}
