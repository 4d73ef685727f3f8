// The picture follows the map. One request is on its way at a time; when it is back the newest map goes, and no other.

import {healthy, sleep} from './net.js'

export class Live {
  wanted = 0      // number of the newest map
  done = 0        // number of the newest map whose picture is shown, or cannot be
  #running = false
  #abort = new AbortController()

  // paint(n, signal) gives a picture, shown(picture, newest) shows it, told(event, error) tells how it goes
  constructor({paint, shown, told}) { Object.assign(this, {paint, shown, told}) }

  get idle() { return this.done === this.wanted }

  ask() {
    this.wanted++
    this.#run()
  }

  // Let go of what is on its way: it is for another model
  drop() {
    this.#abort.abort()
    this.#abort = new AbortController()
  }

  async #run() {
    if (this.#running) return
    this.#running = true
    while (!this.idle) await this.#once()
    this.#running = false
    this.told('idle')
  }

  async #once() {
    await frame()   // what changes within a frame goes together
    const n = this.wanted, {signal} = this.#abort
    this.told('painting')
    try {
      const found = await this.paint(n, signal)
      if (signal.aborted) return
      this.done = Math.max(this.done, n)
      await this.shown(found, n === this.wanted)
    } catch (e) { if (!signal.aborted) await this.#trouble(e, n) }
  }

  async #trouble(e, n) {
    if (e.superseded) return sleep(0.05)
    if (e.busy) {
      this.told('busy', e)
      return sleep(e.wait)
    }
    if (e.gone) return this.#waitForServer(e)
    this.done = Math.max(this.done, n)
    this.told('failed', e)
  }

  async #waitForServer(e) {
    this.told('gone', e)
    for (let pause = 0.5; !await healthy(); pause = Math.min(5, pause * 1.3)) await sleep(pause)
    await this.told('back')
  }
}

// The next frame, or a moment where the page is hidden and has none
const frame = () => new Promise(done => {
  const late = setTimeout(done, 50)
  requestAnimationFrame(() => { clearTimeout(late); done() })
})
