// Sentences for the user: news go by themselves, what hinders painting stays until it is over.

import {byId} from './dom.js'

const SHOWN = 6000   // milliseconds
const READ = 15_000
let timer = 0, badTimer = 0, lasts = false

export function say(sentence) {
  byId('say').textContent = sentence
  clearTimeout(timer)
  timer = setTimeout(() => { byId('say').textContent = '' }, SHOWN)
}

// Say what went wrong; what is `lasting` stays until `settled`
export function trouble(sentence, lasting = false) {
  lasts = lasting
  clearTimeout(badTimer)
  if (!lasting) badTimer = setTimeout(clear, READ)
  const whole = /[.!?]$/.test(sentence) ? sentence : `${sentence}.`
  byId('trouble').textContent = whole[0].toUpperCase() + whole.slice(1)
}

function clear() { byId('trouble').textContent = '' }

// Painting goes on
export function settled() { if (lasts) clear() }

export function loading(name) {
  byId('loading').hidden = !name
  byId('loading-text').textContent = name ? `Loading ${name} …` : ''
}
