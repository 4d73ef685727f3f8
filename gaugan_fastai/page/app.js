// The page as a whole: what starts it, and who hears of what.

import * as net from './net.js'
import {Controls} from './controls.js'
import {Desk} from './desk.js'
import {Files} from './files.js'
import {Keeper, recall, record} from './keeping.js'
import {Live} from './live.js'
import {Models} from './models.js'
import {Painting} from './painting.js'
import {Numbers} from './numbers.js'
import {Palette} from './palette.js'
import {Pointer} from './pointer.js'
import {Strip} from './strip.js'
import {Styles} from './styles.js'
import {Tools} from './tools.js'
import {View} from './view.js'
import {byId} from './dom.js'
import {fades} from './fading.js'
import {say, trouble, settled} from './messages.js'

const desk = new Desk(), tools = new Tools(desk), keeper = new Keeper(), painting = new Painting(desk)
const view = new View(desk, tools, {map: byId('map'), picture: byId('picture')})
const strip = new Strip(bringBack)
const told = e => trouble(e.message)
const shared = {picture: () => latest, told, say}
const models = new Models(desk, {say, told})
const palette = new Palette(desk)
const live = new Live({paint, shown, told: goes})
const GONE = 'The painter does not answer. Your work is safe in this browser; painting goes on when it is back.'
let latest = null, began = 0   // the last picture with its state; when the map last changed

new Styles(desk, painting, shared)
const files = new Files(desk, {...shared, take: takeProject})
new Controls(desk, tools, view, {palette, files, undo, redo})
new Numbers(desk)
new Pointer(desk, tools, view, undo)

function undo() {
  if (tools.now.back()) return view.draw()
  if (desk.before) return desk.cancel()
  if (!desk.undo()) say('There is nothing to undo.')
}

function redo() {
  if (!desk.redo()) say('There is nothing to redo.')
}

// The picture follows the map, the model, the seed and the styles, not the tool
let before = ''
function follow() {
  if (!desk.model) return
  const {seed, style, regions, numbers} = desk, now = JSON.stringify([seed, style, regions, numbers])
  if (now !== before) ask()
  before = now
}

function ask() {
  if (!desk.model) return
  began = performance.now()
  live.ask()
}

for (const box of document.querySelectorAll('.tools, .panel, .palette')) fades(box)

desk.on('map', ask)
desk.on('step', () => live.hurry())
desk.on('choice', follow)
desk.on('model', () => live.drop())
for (const event of ['step', 'choice', 'styles', 'model']) desk.on(event, keep)
desk.on('said', say)

function paint(n, signal, hurry) { return painting.paint(n, signal, hurry) }

async function shown({state, picture, n}, newest) {
  if (state.model.name !== desk.model.name) return
  view.show(await createImageBitmap(picture))
  latest = {state, picture}
  settled()
  if (!newest) return
  byId('pace').textContent = `${Math.round(performance.now() - began)} ms`
  Object.assign(document.body.dataset, {shown: n})
  if (!desk.before) strip.add(state, picture)
}

// How the painting goes, in sentences
async function goes(event, e) {
  document.body.dataset.live = event
  if (event === 'failed') trouble(e.message, true)
  if (event === 'busy') say('The painter is busy; the picture will follow in a moment.')
  if (event === 'gone') trouble(GONE, true)
  if (event !== 'back') return
  painting.forget()
  await models.refresh().catch(() => {})
  settled()
  say('The painter is back.')
}

function bringBack({state, picture}) {
  desk.swap(() => desk.restore(state))
  createImageBitmap(picture).then(image => view.show(image))
}

async function takeProject(found) {
  const kept = new Set(desk.styles.map(o => o.key))
  desk.styles = [...desk.styles, ...found.styles.filter(o => !kept.has(o.key))]
  desk.tell('styles')
  await models.open(found)
  say('Opened the project.')
}

let ready = false
function keep() {
  if (ready && desk.model) keeper.keep(record(desk), desk.history)
}

async function start() {
  keeper.trouble = sentence => trouble(sentence)
  const last = await keeper.last()
  for (; !await net.healthy(); await net.sleep(1)) goes('gone')
  settled()
  await models.start(last)
  if (last?.map) await recall(desk, last, name => models.find(name))
  ready = true
  document.body.dataset.ready = 'yes'
}

globalThis.painter = {desk, view, live, strip, keeper}   // for the console, and for tests
start().catch(told)
