// Open and save: maps (PNG of class ids), pictures, projects.

import * as net from './net.js'
import {byId, download} from './dom.js'
import {pack, record, unpack} from './keeping.js'
import {decode, encode} from './png.js'

export class Files {
  // take(record) puts a project on the desk
  constructor(desk, {picture, take, told, say}) {
    Object.assign(this, {desk, picture, take, told, say})
    const on = (id, act) => byId(id).addEventListener('click', () => this.#close(act))
    on('open', () => this.open())
    on('save-map', async () => this.#save(await encode(desk.grid), 'map.png'))
    on('save-picture', () => this.#savePicture())
    on('save-project', () => this.saveProject())
    byId('file').addEventListener('change', e => this.#chosen(e.target))
    addEventListener('dragover', e => e.preventDefault())
    addEventListener('drop', e => this.#dropped(e))
  }

  open() { byId('file').click() }
  async saveProject() { this.#save(await pack(record(this.desk)), 'painting.json') }

  // A browser has its own place for what is saved, and says no more than that
  #save(blob, name) {
    download(blob, name)
    this.say(`Saved as ${name}, where your browser puts downloads.`)
  }

  #close(act) {
    byId('file-menu').open = false
    return act()
  }

  #savePicture() {
    const shown = this.picture()
    if (!shown) return this.told(new Error('There is no picture yet: paint something first.'))
    this.#save(shown.picture, shown.picture.type === 'image/jpeg' ? 'picture.jpg' : 'picture.png')
  }

  #chosen(input) {
    const [file] = input.files
    input.value = ''
    if (file) this.read(file)
  }

  #dropped(e) {
    e.preventDefault()
    const [file] = e.dataTransfer.files
    if (file) this.read(file)
  }

  // Open a file: a project by its name, else a map, which the server reads as the model's card says
  async read(file) {
    try {
      if (/\.json$/i.test(file.name)) await this.take(await unpack(file))
      else await this.#map(file)
    } catch (e) { this.told(e) }
  }

  async #map(file) {
    const {png, note} = await net.map(this.desk.model.name, file)
    this.desk.put(await decode(png))
    this.say(note ? `Opened ${file.name}: ${note}.` : `Opened ${file.name}.`)
  }
}
