// The steps of undo and redo in compressed form, so that the browser can keep them, and back.

import {Patch, Swap} from './history.js'
import {Grid} from './raster.js'
import {deflated, inflated} from './png.js'

const MOST = 16 * 2 ** 20   // bytes that are kept; the oldest steps go first
const random = Array.from(crypto.getRandomValues(new Uint8Array(8)), b => b.toString(16).padStart(2, '0')).join('')
let count = 0

async function packedState({model, grid: {w, h, ids}, ...rest}) {
  const names = model.classes.map(c => c.name)
  return {...rest, model: model.name, names, w, h, ids: await deflated(ids)}
}

// The state of the desk again; an error where its model is gone or has other classes now
async function stateOf({model: name, names, w, h, ids, ...rest}, find) {
  const model = find(name)
  if (!model || !alike(names, model.classes.map(c => c.name))) throw new Error(`${name} is another model now`)
  return {...rest, model, grid: new Grid(w, h, await inflated(ids))}
}

export const alike = (a, b) => a.length === b.length && a.every((o, i) => o === b[i])

async function packed(step) {
  const {box, before, after} = step
  if (step instanceof Patch) return {box, before: await deflated(before), after: await deflated(after)}
  return {before: await packedState(before), after: await packedState(after)}
}

async function unpacked({box, before, after}, find) {
  if (box) return new Patch(box, await inflated(before), await inflated(after))
  return new Swap(await stateOf(before, find), await stateOf(after, find))
}

const bytes = o => (o.ids ?? o).length
const weight = ({packed: {before, after}}) => bytes(before) + bytes(after)

// Pack each step once and give it a name: what is kept of a history, as far as there is room
export async function pack({past, future}) {
  for (const step of [...past, ...future]) {
    step.packed ??= await packed(step)
    step.id ??= `${random} ${count++}`
  }
  let room = MOST
  const fitting = steps => steps.slice(steps.findLastIndex(o => (room -= weight(o)) < 0) + 1)
  return {past: fitting(past), future: fitting(future)}
}

// The newest of the kept steps, up to the first that cannot be gone back to
export async function unpack(kept, find) {
  const res = []
  for (const {id, packed} of [...kept].reverse()) {
    const step = await unpacked(packed, find).catch(() => null)
    if (!step) break
    res.unshift(Object.assign(step, {id, packed}))
  }
  return res
}
