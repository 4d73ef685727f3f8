// The picture follows the map. One request is on its way at a time; when it is back the newest map goes, and no other.

import {healthy, sleep} from './net.js'

export class Live {
  wanted = 0      // number of the newest map
  done = 0        // number of the newest map whose picture is shown, or cannot be
  #running = false
  #sent = 0       // number of the map that is on its way; 0: none
  #dropped = false   // was it given up? Then the server is told so with the next
  #hurried = false   // at most once from one picture to the next
  #abort = new AbortController()

  // paint(n, signal, hurry) gives a picture, shown(picture, newest) shows it, told(event, error) tells how it goes
  constructor({paint, shown, told}) { Object.assign(this, {paint, shown, told}) }

  get idle() { return this.done === this.wanted }

  ask() {
    this.wanted++
    this.#run()
  }

  // Let go of what is on its way: it is for another model
  drop() {
    this.#dropped ||= this.#sent > 0
    this.#abort.abort()
    this.#abort = new AbortController()
  }

  // A stroke has ended: a picture of a part of it need not be finished
  hurry() {
    if (!this.#sent || this.#sent === this.wanted || this.#hurried) return
    this.#hurried = true
    this.drop()
  }

  async #run() {
    if (this.#running) return
    this.#running = true
    while (!this.idle) await this.#once()
    this.#running = false
    this.told('idle')
  }

  async #once() {
    await end()   // what changes together goes together
    const n = this.wanted, {signal} = this.#abort, hurry = this.#dropped
    this.#sent = n
    this.#dropped = false
    this.told('painting')
    try {
      const found = await this.paint(n, signal, hurry)
      this.#sent = 0
      if (signal.aborted) return
      this.done = Math.max(this.done, n)
      this.#hurried = false
      await this.shown(found, n === this.wanted)
    } catch (e) {
      this.#sent = 0
      if (!signal.aborted) await this.#trouble(e, n)
    }
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

// The end of what the page does just now
const end = () => new Promise(done => setTimeout(done))
