// Sentences for the user: news go by themselves, trouble stays until it is over.

import {byId} from './dom.js'

const SHOWN = 6000   // milliseconds
let timer = 0

export function say(sentence) {
  byId('say').textContent = sentence
  clearTimeout(timer)
  timer = setTimeout(() => { byId('say').textContent = '' }, SHOWN)
}

export function trouble(sentence) {
  const whole = /[.!?]$/.test(sentence) ? sentence : `${sentence}.`
  byId('trouble').textContent = whole[0].toUpperCase() + whole.slice(1)
}

export function settled() { byId('trouble').textContent = '' }

export function loading(name) {
  byId('loading').hidden = !name
  byId('loading-text').textContent = name ? `Loading ${name} …` : ''
}
