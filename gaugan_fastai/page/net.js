// What the page asks of the server. Errors come as sentences; no answer at all is an error of the kind 'gone'.

const client = Array.from(crypto.getRandomValues(new Uint8Array(8)), b => b.toString(16).padStart(2, '0')).join('')
const LONGEST = 60_000   // milliseconds

export class ServerError extends Error {
  constructor(sentence, {status = 0, busy = false, superseded = false, wait = 1} = {}) {
    super(sentence)
    Object.assign(this, {status, busy, superseded, wait})
  }

  get gone() { return this.status === 0 }
}

async function problem(answer) {
  const found = await answer.json().catch(() => ({}))
  const sentence = found.error ?? `the server answered ${answer.status}`
  const wait = Math.min(30, Math.max(0.2, Number(answer.headers.get('Retry-After')) || 1))
  const {status} = answer, busy = found.busy || status === 429
  return new ServerError(sentence, {status, busy, superseded: found.superseded, wait})
}

async function ask(path, query = {}, {method = 'GET', body, signal} = {}) {
  const given = Object.entries(query).filter(([, value]) => value !== null && value !== undefined)
  const url = given.length ? `${path}?${new URLSearchParams(given)}` : path
  const signals = [AbortSignal.timeout(LONGEST), ...signal ? [signal] : []]
  const headers = {'X-Painter': '1', 'X-Painter-Client': client}
  let answer
  try { answer = await fetch(url, {method, body, headers, signal: AbortSignal.any(signals)}) }
  catch (e) {
    if (signal?.aborted) throw e
    throw new ServerError('The server does not answer.')
  }
  if (!answer.ok) throw await problem(answer)
  return answer
}

// The rest of an answer, which may break off
async function rest(answer, kind) {
  try { return await answer[kind]() }
  catch { throw new ServerError('The server does not answer.') }
}

const post = (path, query, body, signal) => ask(path, query, {method: 'POST', body, signal})

function form(fields) {
  const res = new FormData()
  for (const [name, blob] of Object.entries(fields)) if (blob) res.append(name, blob, blob.name ?? `${name}.png`)
  return res
}

export const models = async () => rest(await ask('api/models'), 'json')
export const examples = async model => rest(await ask('api/examples', {model}), 'json')
export const file = async url => rest(await ask(url), 'blob')
export const load = async model => rest(await post('api/load', {model}), 'json')
export const healthy = () => ask('healthz').then(() => true, () => false)
export const sleep = seconds => new Promise(done => setTimeout(done, seconds * 1000))

// Register the style of a photo: its id
export async function style(model, photo, map) {
  return (await rest(await post('api/style', {model}, form({photo, map})), 'json')).style
}

// Read a label map of any form the model knows: a PNG of ids, and what was done to it
export async function map(model, file) {
  const answer = await post('api/map', {model}, form({file}))
  return {png: await rest(answer, 'blob'), note: answer.headers.get('X-Painter-Note')}
}

// Paint: the picture, and the number of the request it belongs to
export async function paint({model, seed, n, hurry, style, regions, numbers, png}, signal) {
  const more = regions.length ? {regions: JSON.stringify(regions)} : {}
  if (Object.keys(numbers).length) more.options = JSON.stringify(numbers)
  if (hurry) more.hurry = 1   // than what this page has asked for before
  const answer = await post('api/paint', {model, seed, n, style, ...more}, png, signal)
  return {picture: await rest(answer, 'blob'), n: Number(answer.headers.get('X-Painter-N') ?? n)}
}
