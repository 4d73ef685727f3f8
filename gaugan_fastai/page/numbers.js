// Numbers that a network can be told when it paints, such as the steps of a diffusion model: a field for each.

import {byId, element} from './dom.js'

export class Numbers {
  constructor(desk) {
    this.desk = desk
    desk.on('model', () => this.#fill())
    desk.on('choice', () => this.#mark())
  }

  #fill() {
    const {options} = this.desk.model
    byId('numbers').hidden = !options.length
    for (const old of byId('numbers').querySelectorAll('label')) old.remove()
    byId('numbers').append(...options.map(o => this.#field(o)))
  }

  #field({name, words, whole}) {
    const value = this.desk.numbers[name]
    const how = {type: 'number', min: whole ? 1 : 0, max: 1000, step: whole ? 1 : 'any', required: true, value}
    const input = element('input', {...how, data: {number: name}})
    input.addEventListener('input', () => this.#take(input))
    return element('label', {className: 'field', title: words}, element('span', {textContent: name}), input)
  }

  #take(input) {
    const {desk} = this, {number} = input.dataset
    if (input.checkValidity()) desk.choose({options: {...desk.options, [number]: Number(input.value)}})
  }

  // What is typed just now stays as it is typed
  #mark() {
    for (const input of byId('numbers').querySelectorAll('input')) {
      if (input !== document.activeElement) input.value = this.desk.numbers[input.dataset.number]
    }
  }
}
