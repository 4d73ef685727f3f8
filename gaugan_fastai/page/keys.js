// The keys that people know.

import {byId} from './dom.js'

const TOOLS = {b: 'brush', e: 'eraser', l: 'line', p: 'polygon', f: 'fill', i: 'picker', h: 'hand'}
const TYPING = 'input[type=search], input[type=number], input[type=text], textarea, select'

export class Keys {
  // does: what a key does, by name
  constructor(tools, does) {
    Object.assign(this, {tools, does})
    addEventListener('keydown', e => this.#down(e))
  }

  #down(e) {
    if (document.querySelector('dialog[open]')) return
    const typing = e.target.matches?.(TYPING), act = e.ctrlKey || e.metaKey ? this.#control(e) : this.#plain(e)
    if (!act || typing) return
    e.preventDefault()
    act()
  }

  #control(e) {
    const {does} = this, key = e.key.toLowerCase()
    if (key === 'z') return e.shiftKey ? does.redo : does.undo
    return {y: does.redo, s: does.saveProject, o: does.open}[key]
  }

  #plain(e) {
    const {tools, does} = this, key = e.key.toLowerCase()
    if (e.altKey) return null
    if (TOOLS[key]) return () => tools.take(TOOLS[key])
    if (/^[1-9]$/.test(key)) return () => does.cls(Number(key) - 1)
    if (key === 'enter' && !e.target.matches?.('button, summary, canvas')) return () => tools.now.finish()
    const others = {
      '[': () => does.size(-1), ']': () => does.size(1), '+': () => does.zoom(1.5), '=': () => does.zoom(1.5),
      '-': () => does.zoom(1 / 1.5), '0': does.fit, 's': does.view, '?': () => byId('keys').showModal(),
      'escape': () => tools.now.cancel(), 'backspace': () => tools.now.back(),
    }
    return others[key] ?? null
  }
}
