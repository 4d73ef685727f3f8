// What lies on the desk: the map, the model's classes, the tool in hand. All parts of the page hear of its changes.

import {Patch, Swap, History} from './history.js'
import {Grid, resized, translated} from './raster.js'

export class Desk {
  model = null             // one of the server's list
  grid = new Grid(1, 1)
  cls = 0                  // the class in hand
  background = 0           // what the eraser paints
  tool = 'brush'
  shape = 'round'
  size = 12
  sticky = false           // paint without holding: click to begin, click to end
  seed = 0
  style = null             // key of a photo in `styles`, or null
  styles = []              // {key, name, photo, map: {w, h, ids, names} or null}
  regions = {}             // class name -> {style, to, amount}
  options = {}             // name -> number, of whatever model has one of that name
  history = new History()
  before = null            // the map before the stroke that is being drawn
  #ears = new Map()

  on(event, ear) { this.#ears.set(event, [...this.#ears.get(event) ?? [], ear]) }
  tell(event, what) { for (const ear of this.#ears.get(event) ?? []) ear(what) }

  // Set some of the above and tell of it as 'choice'
  choose(changes) {
    Object.assign(this, changes)
    this.tell('choice', changes)
  }

  get classes() { return this.model?.classes ?? [] }
  get names() { return this.classes.map(c => c.name) }
  get takes() { return this.model?.takes ?? [] }
  // The model's numbers: name -> what is chosen, or what the model has by itself
  get numbers() {
    const known = this.model?.options ?? []
    return Object.fromEntries(known.map(({name, value}) => [name, this.options[name] ?? value]))
  }

  get regional() { return this.model?.regions ?? this.model?.styles === 'codes' }

  // Begin a step; what `end` finds changed since then is undone as one
  begin() { this.before = this.grid.copy() }

  end() {
    const step = this.before && Patch.between(this.before, this.grid)
    this.before = null
    if (!step) return false
    this.history.push(step)
    this.tell('step')
    return true
  }

  cancel() {
    if (!this.before) return
    this.grid = this.before
    this.before = null
    this.tell('map')
  }

  undo() { this.cancel(); return this.history.undo(this) && (this.tell('step'), true) }
  redo() { this.cancel(); return this.history.redo(this) && (this.tell('step'), true) }

  state() {
    const {model, grid, seed, style, regions, options, numbers, cls, background} = this
    return {model, grid: grid.copy(), seed, style, regions: structuredClone(regions), options, numbers, cls, background}
  }

  restore(state) {
    const other = state.model !== this.model
    const {numbers, ...own} = state   // those follow from the options
    Object.assign(this, {...own, grid: state.grid.copy(), regions: structuredClone(state.regions)})
    if (other) this.tell('model')
    this.tell('choice', {})
    this.tell('map')
  }

  // Do something larger than a stroke as one step
  swap(act) {
    this.cancel()
    const before = this.state()
    act()
    this.replaced(before)
  }

  // What was on the desk before has been replaced, in one step
  replaced(before) {
    this.history.push(new Swap(before, this.state()))
    this.tell('choice', {})
    this.tell('map')
    this.tell('step')
  }

  put(grid) { this.swap(() => { this.grid = grid.copy() }) }

  // Go on with another model, in one step: see `adopt`
  take(model) {
    let lost
    this.swap(() => { lost = this.adopt(model) })
    return lost
  }

  // The map in the classes and size of a model, as far as it can paint them. Gives the names that have no partner
  adopt(model) {
    const {names} = this, inHand = names[this.cls], behind = names[this.background]
    const instead = emptiest(model.classes)
    this.model = model
    const {grid, lost} = translated(resized(this.grid, model.size[1], model.size[0]), names, this.names, instead)
    this.grid = grid
    this.cls = Math.max(0, this.names.indexOf(inHand))
    this.background = this.names.includes(behind) ? this.names.indexOf(behind) : instead
    this.tell('model')
    return lost
  }
}

// The class that means "nothing special": one of the usual names for it, or the first
function emptiest(classes) {
  const usual = ['void', 'unlabeled', 'unlabelled', 'background', 'sky']
  const found = usual.map(name => classes.find(c => c.name.toLowerCase() === name)).find(Boolean)
  return found?.id ?? 0
}
