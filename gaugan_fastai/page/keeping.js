// The work is kept in this browser (IndexedDB), so that a reload loses nothing, and in project files.

import {asURL, decode, encode, fromURL} from './png.js'

const STORE = 'desk', NOW = 'now', FORM = 'gaugan_fastai project'

const promised = request => new Promise((done, failed) => {
  request.onsuccess = () => done(request.result)
  request.onerror = () => failed(request.error)
})

function open() {
  const request = indexedDB.open('gaugan painter', 1)
  request.onupgradeneeded = () => request.result.createObjectStore(STORE)
  return promised(request)
}

function written(db, record) {
  const work = db.transaction(STORE, 'readwrite')
  work.objectStore(STORE).put(record, NOW)
  return new Promise((done, failed) => {
    work.oncomplete = done
    work.onabort = () => failed(work.error)
  })
}

export class Keeper {
  #next = null
  #busy = null
  trouble = () => {}     // told once where the browser keeps nothing

  async last() {
    try {
      this.db = await open()
      return await promised(this.db.transaction(STORE).objectStore(STORE).get(NOW))
    } catch (e) {
      this.#failed(e)
    }
  }

  // Keep a record; where several come at once, the last one
  keep(record) {
    this.#next = record
    this.#busy ??= this.#write().finally(() => { this.#busy = null })
    return this.#busy
  }

  async #write() {
    while (this.#next && this.db) {
      const record = this.#next
      this.#next = null
      try { await written(this.db, record) }
      catch (e) { this.#failed(e) }
    }
  }

  #failed(e) {
    if (this.told) return
    this.told = true
    const full = e?.name === 'QuotaExceededError'
    const why = full ? 'This browser has no room left to keep your work' : 'This browser does not keep your work'
    this.trouble(`${why}: save the project before you close the page.`)
  }
}

// What is kept of the desk
export function record(desk) {
  const {grid: {w, h, ids}, seed, style, styles, regions, cls, background, tool, shape, size, sticky} = desk
  const map = {w, h, ids: ids.slice(), names: desk.names}
  return {model: desk.model.name, map, seed, style, styles, regions, cls, background, tool, shape, size, sticky}
}

async function packedMap(map) {
  return map && {names: map.names, png: await asURL(await encode(map))}
}

async function unpackedMap(map) {
  if (!map) return null
  const {w, h, ids} = await decode(fromURL(map.png))
  return {w, h, ids, names: map.names.map(String)}
}

// A record as a project file
export async function pack(kept) {
  const packed = async o => ({...o, photo: await asURL(o.photo), map: await packedMap(o.map)})
  const {model, seed, style, regions} = kept
  const styles = await Promise.all(kept.styles.map(packed))
  const project = {form: FORM, version: 1, model, map: await packedMap(kept.map), seed, style, styles, regions}
  return new Blob([JSON.stringify(project, null, 1)], {type: 'application/json'})
}

// The record in a project file; an error says what is wrong in a sentence
export async function unpack(file) {
  let found
  try { found = JSON.parse(await file.text()) }
  catch { throw new Error(`${file.name} is no project: it is not JSON`) }
  if (found?.form !== FORM) throw new Error(`${file.name} is JSON, but no project of this page`)
  if (!found.map) throw new Error(`${file.name} is a project without a map`)
  try {
    const texts = o => ({key: String(o.key), name: String(o.name)})
    const photo = async o => ({...texts(o), photo: fromURL(o.photo), map: await unpackedMap(o.map)})
    const {model, seed = 0, style = null, regions = {}} = found
    const styles = await Promise.all((found.styles ?? []).map(photo))
    return {model: String(model), map: await unpackedMap(found.map), seed: Number(seed), style, styles, regions}
  } catch { throw new Error(`${file.name} is a project, but a damaged one: what it holds cannot be read`) }
}
