// The work and its undo are kept in this browser (IndexedDB), so that a reload loses nothing, and the work in projects.

import * as undo from './steps.js'
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

// The keys of the steps in the store
const STEPS = IDBKeyRange.bound(['step'], ['step', []])
const key = ({id}) => ['step', id]

// Write a record and the steps that are not there yet, and drop those that are over, all or nothing
function written(db, record, {past, future}) {
  const work = db.transaction(STORE, 'readwrite'), store = work.objectStore(STORE), steps = [...past, ...future]
  const wanted = new Set(steps.map(o => o.id)), ids = list => list.map(o => o.id)
  store.put({...record, past: ids(past), future: ids(future)}, NOW)
  store.getAllKeys(STEPS).onsuccess = ({target: {result: found}}) => {
    for (const there of found) if (!wanted.has(there[1])) store.delete(there)
    const known = new Set(found.map(o => o[1]))
    for (const step of steps) if (!known.has(step.id)) store.put(step.packed, key(step))
  }
  return new Promise((done, failed) => {
    work.oncomplete = done
    work.onabort = () => failed(work.error)
  })
}

// The record that was written last, with its steps as {id, packed}
async function read(db) {
  const store = db.transaction(STORE).objectStore(STORE)
  const asked = [store.get(NOW), store.getAllKeys(STEPS), store.getAll(STEPS)]
  const [record, keys, values] = await Promise.all(asked.map(promised))
  const found = new Map(keys.map(([, id], i) => [id, values[i]]))
  const steps = list => list?.map(id => ({id, packed: found.get(id)})) ?? []
  return record && {...record, past: steps(record.past), future: steps(record.future)}
}

export class Keeper {
  #next = null
  #busy = null
  trouble = () => {}     // told once where the browser keeps nothing

  get idle() { return !this.#busy }

  async last() {
    try {
      this.db = await open()
      return await read(this.db)
    } catch (e) {
      this.#failed(e)
    }
  }

  // Keep a record and a history; where several come at once, the last one
  keep(record, {past, future}) {
    this.#next = [record, {past: [...past], future: [...future]}]
    this.#busy ??= this.#write().finally(() => { this.#busy = null })
    return this.#busy
  }

  async #write() {
    while (this.#next && this.db) {
      const [record, history] = this.#next
      this.#next = null
      try { await written(this.db, record, await undo.pack(history)) }
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

// What is kept of the desk; a stroke that is being drawn belongs to it when it has ended
export function record(desk) {
  const {seed, style, styles, regions, options, cls, background, tool, shape, size, sticky} = desk
  const {w, h, ids} = desk.before ?? desk.grid
  const map = {w, h, ids: ids.slice(), names: desk.names}
  const hand = {cls, background, tool, shape, size, sticky}
  return {model: desk.model.name, map, seed, style, styles, regions, options, ...hand}
}

// Undo and redo as they were, where the desk is as it was
export async function recall(desk, last, find) {
  const {model, map, past, future} = last
  const same = desk.model.name === model && undo.alike(desk.names, map.names) && desk.grid.same(map)
  if (!same) return
  const [before, after] = [await undo.unpack(past, find), await undo.unpack(future, find)]
  if (desk.before || desk.history.past.length) return   // somebody paints already
  Object.assign(desk.history, {past: before, future: after})
  desk.tell('choice', {})
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
  const {model, seed, style, regions, options} = kept
  const styles = await Promise.all(kept.styles.map(packed))
  const how = {seed, style, styles, regions, options}
  const project = {form: FORM, version: 1, model, map: await packedMap(kept.map), ...how}
  return new Blob([JSON.stringify(project, null, 1)], {type: 'application/json'})
}

// The record in a project file; an error says what is wrong in a sentence
export async function unpack(file) {
  let found
  try { found = JSON.parse(await file.text()) }
  catch { throw new Error(`${file.name} is not a project: it is not JSON`) }
  if (found?.form !== FORM) throw new Error(`${file.name} is JSON, but not a project of this page`)
  if (!found.map) throw new Error(`${file.name} is a project file without a map`)
  try {
    const texts = o => ({key: String(o.key), name: String(o.name)})
    const photo = async o => ({...texts(o), photo: fromURL(o.photo), map: await unpackedMap(o.map)})
    const {model, seed = 0, style = null, regions = {}, options = {}} = found
    const styles = await Promise.all((found.styles ?? []).map(photo))
    const how = {seed: Number(seed), style, styles, regions, options}
    return {model: String(model), map: await unpackedMap(found.map), ...how}
  } catch { throw new Error(`${file.name} is a damaged project file: its contents cannot be read`) }
}
