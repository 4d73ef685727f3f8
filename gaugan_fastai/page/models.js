// The models of the server: the picker, the way to another one, example maps.

import * as net from './net.js'
import {byId, element} from './dom.js'
import {decode} from './png.js'
import {Grid} from './raster.js'
import {loading} from './messages.js'

const option = (value, textContent) => element('option', {value, textContent})

export class Models {
  all = []

  constructor(desk, {say, told}) {
    Object.assign(this, {desk, say, told})
    byId('model').addEventListener('change', e => this.choose(e.target.value))
    byId('example').addEventListener('change', e => this.#example(e.target))
    desk.on('model', () => this.#show())
  }

  // Ask the server anew what it has
  async refresh() {
    const {models, default: usual} = await net.models()
    this.all = models
    this.usual = usual
    byId('model').replaceChildren(...models.map(o => option(o.name, o.title || o.name)))
    for (const [i, {error}] of models.entries()) if (error) byId('model').options[i].title = error
    if (!this.desk.model) return
    this.desk.model = this.find(this.desk.model.name) ?? this.desk.model
    byId('model').value = this.desk.model.name
  }

  find(name) { return this.all.find(o => o.name === name) }

  // Begin with what was kept, or with an example
  async start(last) {
    await this.refresh()
    const model = await this.#first([new URLSearchParams(location.search).get('model'), last?.model, this.usual])
    history.replaceState(null, '', location.pathname)
    if (last?.map) {
      this.#resume(model, last)
      return this.#begin()
    }
    this.desk.adopt(model)
    try {
      const [first] = await this.#examples(model)
      if (first) this.desk.grid = await decode(await net.file(first.url))
    } catch (e) { this.told(e) }
    this.#begin()
  }

  // The first model that can be loaded, of those that are wanted and then of all
  async #first(names) {
    const each = [...names.map(name => this.find(name)), ...this.all].filter(Boolean)
    let why = new Error('This painter has no model: start it as gaugan paint MODEL.')
    for (const model of new Set(each)) {
      try {
        await this.#load(model)
        return model
      } catch (e) {
        if (e.gone) throw e
        why = e
      }
    }
    throw why
  }

  // Go on with what a reload, or a project, brings: its map in its own classes, then in the model's
  #resume(model, {map, ...rest}) {
    const {desk} = this, own = map.names.map((name, id) => ({id, name, color: '#000000'}))
    desk.model = {...model, classes: own, size: [map.h, map.w]}
    desk.grid = new Grid(map.w, map.h, map.ids)
    const {cls = 0, background = 0, tool, shape, size, sticky, seed = 0, style = null, styles, ...more} = rest
    const {regions = {}, options = {}} = more
    const given = Object.entries({cls, background, tool, shape, size, sticky, seed, style, styles, regions, options})
    Object.assign(desk, Object.fromEntries(given.filter(([, value]) => value !== undefined)))
    this.#tellLost(model, desk.adopt(model))
  }

  #begin() {
    this.desk.tell('styles')
    this.desk.tell('choice', {})
    this.desk.tell('map')
  }

  // Put a project on the desk, as one step
  async open({model: name, map, seed, style, regions, options}) {
    const model = this.find(name) ?? this.desk.model, {desk} = this
    await this.#load(model)
    const before = desk.state()
    this.#resume(model, {map, seed, style, regions, options, cls: 0})
    desk.replaced(before)
  }

  // Go over to another model; the old one stays until the new one is loaded
  async choose(name) {
    const model = this.find(name)
    try { await this.#load(model) }
    catch (e) {
      byId('model').value = this.desk.model.name
      return this.told(e)
    }
    this.#tellLost(model, this.desk.take(model))
  }

  #tellLost(model, lost) {
    if (!lost.length) return
    const named = lost.length > 4 ? [...lost.slice(0, 3), `${lost.length - 3} more`] : lost
    const names = named.length > 1 ? `${named.slice(0, -1).join(', ')} and ${named.at(-1)}` : named[0]
    const instead = this.desk.names[this.desk.background]
    this.say(`${model.title || model.name} does not know ${names}: painted as ${instead} now. Undo goes back.`)
  }

  async #load({name, title}) {
    try {
      for (let wait = 0.15; ; wait = Math.min(1, wait * 1.3)) {
        const {state, error} = await net.load(name)
        if (state === 'ready') return
        if (state === 'failed') throw new Error(error ?? `${name} cannot be loaded.`)
        loading(title || name)
        await net.sleep(wait)
      }
    } finally { loading(null) }
  }

  async #show() {
    const {model} = this.desk
    byId('model').value = model.name
    const about = [`${model.size[1]} × ${model.size[0]} pixels`, model.licence]
    byId('about').textContent = about.filter(Boolean).join(' · ')
    document.documentElement.style.setProperty('--aspect', model.size[1] / model.size[0])
    const found = await this.#examples(model).catch(() => [])
    byId('example').replaceChildren(option('', 'Choose a map …'), ...found.map(o => option(o.url, o.name)))
    byId('example').disabled = !found.length
  }

  async #examples({name}) {
    const found = await net.examples(name)
    return Array.isArray(found) ? found : found.examples
  }

  async #example(select) {
    const url = select.value
    select.value = ''
    if (!url) return
    try { this.desk.put(await decode(await net.file(url))) }
    catch (e) { this.told(e) }
  }
}
