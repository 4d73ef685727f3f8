// The last eight pictures; a click brings back map, seed and style.

import {byId, element} from './dom.js'

const LAST = 8

export class Strip {
  #shown = []   // {state, picture, url}, the newest first

  // back(item) brings a picture back
  constructor(back) { this.back = back }

  get newest() { return this.#shown[0] }

  add(state, picture) {
    const same = this.#shown.find(o => alike(o.state, state))
    if (same) this.#shown = [same, ...this.#shown.filter(o => o !== same)]
    else this.#shown.unshift({state, picture, url: URL.createObjectURL(picture)})
    for (const {url} of this.#shown.splice(LAST)) URL.revokeObjectURL(url)
    byId('strip').replaceChildren(...this.#shown.map((o, i) => this.#item(o, i)))
  }

  #item(item, i) {
    const {model, seed} = item.state, what = `Picture ${i + 1}: ${model.name}, seed ${seed}`
    const image = element('img', {src: item.url, alt: ''})
    const button = element('button', {title: 'Back to this picture', ariaLabel: `Back to ${what}`}, image)
    button.addEventListener('click', () => this.back(item))
    return element('li', {}, button)
  }
}

function alike(a, b) {
  const same = a.model.name === b.model.name && a.seed === b.seed && a.style === b.style
  return same && ['regions', 'numbers'].every(o => JSON.stringify(a[o]) === JSON.stringify(b[o])) && a.grid.same(b.grid)
}
