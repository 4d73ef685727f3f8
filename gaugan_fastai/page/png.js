// Maps as PNG of 8-bit grey, whose value is the class id. A canvas would write four channels and may shift colours.

import {Grid} from './raster.js'

const SIGNATURE = [137, 80, 78, 71, 13, 10, 26, 10]

const CRC = Uint32Array.from({length: 256}, (_, n) => {
  for (let i = 0; i < 8; i++) n = n & 1 ? 0xedb88320 ^ (n >>> 1) : n >>> 1
  return n
})

function crc(bytes) {
  let c = ~0
  for (const b of bytes) c = CRC[(c ^ b) & 255] ^ (c >>> 8)
  return ~c >>> 0
}

// zlib's form of bytes, and back
export const deflated = bytes => through(new CompressionStream('deflate'), bytes)
export const inflated = bytes => through(new DecompressionStream('deflate'), bytes)

async function through(stream, bytes) {
  const answer = new Response(new Blob([bytes]).stream().pipeThrough(stream))
  return new Uint8Array(await answer.arrayBuffer())
}

function chunk(type, data) {
  const bytes = new Uint8Array(data.length + 12), view = new DataView(bytes.buffer)
  view.setUint32(0, data.length)
  bytes.set(new TextEncoder().encode(type), 4)
  bytes.set(data, 8)
  view.setUint32(data.length + 8, crc(bytes.subarray(4, data.length + 8)))
  return bytes
}

// A map as the bytes of a PNG
export async function encode({w, h, ids}) {
  const rows = new Uint8Array(h * (w + 1))   // each row after a 0: "not filtered"
  for (let y = 0; y < h; y++) rows.set(ids.subarray(y * w, (y + 1) * w), y * (w + 1) + 1)
  const header = new Uint8Array(13), view = new DataView(header.buffer)
  view.setUint32(0, w)
  view.setUint32(4, h)
  header[8] = 8   // bits; the zeros after it: grey, deflate, usual filters, not interlaced
  const data = await deflated(rows)
  const parts = [chunk('IHDR', header), chunk('IDAT', data), chunk('IEND', new Uint8Array())]
  return new Blob([Uint8Array.from(SIGNATURE), ...parts], {type: 'image/png'})
}

function* chunks(bytes) {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  for (let at = 8; at + 12 <= bytes.length;) {
    const size = view.getUint32(at), type = String.fromCharCode(...bytes.subarray(at + 4, at + 8))
    yield [type, bytes.subarray(at + 8, at + 8 + size)]
    at += size + 12
  }
}

function paeth(a, b, c) {
  const pa = Math.abs(b - c), pb = Math.abs(a - c), pc = Math.abs(a + b - 2 * c)
  return pa <= pb && pa <= pc ? a : pb <= pc ? b : c
}

const PREDICT = [() => 0, a => a, (a, b) => b, (a, b) => (a + b) >> 1, paeth]

function unfiltered(rows, w, h) {
  const ids = new Uint8Array(w * h)
  for (let y = 0; y < h; y++) {
    const predict = PREDICT[rows[y * (w + 1)]], at = y * w
    for (let x = 0; x < w; x++) {
      const left = x ? ids[at + x - 1] : 0, up = y ? ids[at + x - w] : 0, corner = x && y ? ids[at + x - w - 1] : 0
      ids[at + x] = rows[y * (w + 1) + x + 1] + predict(left, up, corner)
    }
  }
  return ids
}

// The map in a PNG of 8-bit grey, exactly
export async function decode(blob) {
  const bytes = new Uint8Array(await blob.arrayBuffer()), data = []
  if (!SIGNATURE.every((b, i) => bytes[i] === b)) throw new Error('this is not a PNG file')
  let w, h, kind
  for (const [type, part] of chunks(bytes)) {
    if (type === 'IDAT') data.push(part)
    if (type !== 'IHDR') continue
    const view = new DataView(part.buffer, part.byteOffset)
    w = view.getUint32(0)
    h = view.getUint32(4)
    kind = String(part.subarray(8))
  }
  if (kind !== '8,0,0,0,0') throw new Error('this PNG is not an 8-bit grey map')
  const rows = await inflated(await new Blob(data).arrayBuffer())
  return new Grid(w, h, unfiltered(rows, w, h))
}

// A file as text that can stand in JSON, and back
export function asURL(blob) {
  return new Promise((done, failed) => {
    const reader = new FileReader()
    reader.onload = () => done(reader.result)
    reader.onerror = () => failed(reader.error)
    reader.readAsDataURL(blob)
  })
}

export function fromURL(url) {
  const [, type, text] = /^data:([^;,]*);base64,(.*)$/.exec(url) ?? []
  if (text === undefined) throw new Error('this is not a picture in a project')
  return new Blob([Uint8Array.from(atob(text), c => c.charCodeAt(0))], {type})
}
