// From the desk to a request: the map as a PNG, and the ids under which the server knows the styles of photos.

import * as net from './net.js'
import {encode} from './png.js'
import {Grid, resized, translated} from './raster.js'

// A photo in the size of a map, whose pixels say what is where
async function fitted(photo, w, h) {
  const image = await createImageBitmap(photo).catch(() => null)
  if (!image) return photo   // the server says what is wrong with it
  const canvas = Object.assign(document.createElement('canvas'), {width: w, height: h})
  const ctx = canvas.getContext('2d')
  ctx.imageSmoothingQuality = 'high'
  ctx.drawImage(image, 0, 0, w, h)
  image.close()
  return new Promise(done => canvas.toBlob(done, 'image/png'))
}

// The map of a photo in the classes and the size of a model
function mapFor(model, {w, h, ids, names}) {
  const {grid} = translated(new Grid(w, h, ids), names, model.classes.map(c => c.name))
  return resized(grid, model.size[1], model.size[0])
}

export class Painting {
  #ids = new Map()   // model and key of a photo -> id at the server

  constructor(desk) { this.desk = desk }

  // The server started anew: it knows no photo any more
  forget() { this.#ids.clear() }

  // Paint what is on the desk; where the server has let go of a photo, give it once more
  async paint(n, signal, hurry) {
    const state = this.desk.state()
    try { return {state, ...await this.#ask(state, n, signal, hurry)} }
    catch (e) {
      if (e.status !== 404 || !this.#ids.size) throw e
      this.forget()
      return {state, ...await this.#ask(state, n, signal)}
    }
  }

  async #ask({model, grid, seed, style, regions, numbers}, n, signal, hurry) {
    const drawn = model.takes.includes('seed')   // else there is nothing that chance decides
    const request = {model: model.name, seed: drawn ? seed : 0, n, hurry, numbers, png: await encode(grid)}
    request.style = await this.id(model, style)
    request.regions = await this.#regions(model, regions)
    return net.paint(request, signal)
  }

  async #regions(model, regions) {
    if (!this.desk.regional) return []
    const res = []
    for (const {id, name} of model.classes) {
      const {style, to, amount} = regions[name] ?? {}
      if (!style && !(to && amount)) continue
      res.push({class: id, style: await this.id(model, style), to: await this.id(model, to), amount: amount / 100})
    }
    return res
  }

  // The id of a photo's style at the server; null for none, or where the model reads no photos
  async id(model, key) {
    if (key?.startsWith('seed:')) return model.takes.includes('seed') ? key : null   // drawn by chance
    const found = this.desk.styles.find(o => o.key === key)
    if (!found || !model.takes.includes('style')) return null
    const name = JSON.stringify([model.name, key])
    if (!this.#ids.has(name)) this.#ids.set(name, await this.register(model, found))
    return this.#ids.get(name)
  }

  async register(model, {photo, map, name}) {
    if (model.styles !== 'codes') return net.style(model.name, photo)
    const sentence = `${model.name} needs the label map of ${name}: add the photo again`
    if (!map) throw new net.ServerError(sentence, {status: 400})
    const grid = mapFor(model, map)
    return net.style(model.name, await fitted(photo, grid.w, grid.h), await encode(grid))
  }
}
