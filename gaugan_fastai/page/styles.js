// Style photos: one for the whole picture, or from one to another for the class in hand.

import * as net from './net.js'
import {decode} from './png.js'
import {byId, element, icon} from './dom.js'

const SIDE = 768     // photos are kept no larger
const CHANCES = 8    // styles drawn by chance, for the regions of models that can

// A photo no larger than it need be; what is no picture stays as it is, and the server says so
async function smaller(file) {
  const image = await createImageBitmap(file).catch(() => null)
  if (!image) return file
  const k = Math.min(1, SIDE / Math.max(image.width, image.height))
  const canvas = element('canvas', {width: Math.round(image.width * k), height: Math.round(image.height * k)})
  canvas.getContext('2d').drawImage(image, 0, 0, canvas.width, canvas.height)
  image.close()
  const blob = await new Promise(done => canvas.toBlob(done, 'image/jpeg', 0.95))
  return new File([blob], file.name, {type: blob.type})
}

export class Styles {
  #urls = new Map()

  // painting registers photos; picture() gives what is shown, {picture, state}; told(error) says what went wrong
  constructor(desk, painting, {picture, told, say}) {
    Object.assign(this, {desk, painting, picture, told, say})
    byId('style-photo').addEventListener('click', () => byId('photo').click())
    byId('style-picture').addEventListener('click', () => this.#keepPicture())
    byId('photo').addEventListener('change', e => this.#chosen(e.target))
    byId('photo-map').addEventListener('change', e => this.#mapChosen(e.target))
    byId('map-choose').addEventListener('click', () => byId('photo-map').click())
    byId('map-mine').addEventListener('click', () => this.#add(this.photo, this.#mine()))
    byId('map-cancel').addEventListener('click', () => byId('map-dialog').close())
    byId('styles').addEventListener('change', e => desk.choose({style: e.target.value || null}))
    for (const part of ['from', 'to', 'amount']) byId(`region-${part}`).addEventListener('input', () => this.#region())
    for (const event of ['model', 'styles', 'choice']) desk.on(event, () => this.#fill(event))
    desk.on('choice', () => this.#mark())
  }

  get #names() { return this.desk.styles.map(o => o.name) }
  #mine() {
    const {grid: {w, h, ids}, names} = this.desk
    return {w, h, ids: ids.slice(), names}
  }

  async #chosen(input) {
    const [file] = input.files
    input.value = ''
    if (!file) return
    this.photo = file
    if (this.desk.model.styles === 'codes') byId('map-dialog').showModal()
    else await this.#add(file, null)
  }

  async #mapChosen(input) {
    const [file] = input.files, {name} = this.desk.model
    input.value = ''
    if (!file) return
    try {
      const {w, h, ids} = await decode((await net.map(name, file)).png)
      await this.#add(this.photo, {w, h, ids, names: this.desk.names})
    } catch (e) {
      byId('map-dialog').close()
      this.told(e)
    }
  }

  #keepPicture() {
    const shown = this.picture()
    if (!shown) return
    const {grid: {w, h, ids}, model} = shown.state
    const photo = new File([shown.picture], `picture ${this.desk.styles.length + 1}`, {type: shown.picture.type})
    return this.#add(photo, {w, h, ids, names: model.classes.map(c => c.name)})
  }

  // Take a photo in, once the server has read it
  async #add(file, map) {
    byId('map-dialog').close()
    const key = String(Date.now()), name = this.#unique(file.name.replace(/\.\w+$/, ''))
    const found = {key, name, photo: await smaller(file), map}
    this.desk.styles = [...this.desk.styles, found]
    try { await this.painting.id(this.desk.model, key) }
    catch (e) {
      this.#drop(key)
      return this.told(e)
    }
    this.desk.tell('styles')
    this.desk.choose({style: key})
    this.say(`Painting in the style of ${name}.`)
  }

  #unique(name) {
    const same = this.#names.filter(o => o === name || o.startsWith(`${name} (`)).length
    return same ? `${name} (${same + 1})` : name
  }

  #drop(key) {
    const {desk} = this, {regions} = desk
    desk.styles = desk.styles.filter(o => o.key !== key)
    for (const o of Object.values(regions)) for (const part of ['style', 'to']) if (o[part] === key) o[part] = null
    desk.tell('styles')
    desk.choose({regions, ...desk.style === key ? {style: null} : {}})
  }

  #region() {
    const {desk} = this, name = desk.names[desk.cls]
    const [style, to, amount] = ['from', 'to', 'amount'].map(o => byId(`region-${o}`).value || null)
    desk.choose({regions: {...desk.regions, [name]: {style, to, amount: Number(amount)}}})
  }

  #url({key, photo}) {
    if (!this.#urls.has(key)) this.#urls.set(key, URL.createObjectURL(photo))
    return this.#urls.get(key)
  }

  #fill(event) {
    if (event === 'choice') return
    const {desk} = this, reads = desk.takes.includes('style')
    byId('style-part').hidden = !reads && !desk.regional
    byId('styles').hidden = byId('style-buttons').hidden = !reads
    byId('seeds').hidden = !desk.takes.includes('seed')
    for (const old of byId('styles').querySelectorAll('div')) old.remove()
    const words = element('span', {textContent: 'The model’s own style'})
    const usual = element('div', {}, element('label', {}, this.#radio(''), words))
    byId('styles').append(usual, ...desk.styles.map(o => this.#entry(o)))
    for (const part of ['from', 'to']) byId(`region-${part}`).replaceChildren(...this.#options())
    this.#mark()
  }

  // What a region may be painted in: photos, or styles drawn by chance
  #options() {
    const {desk} = this, photos = desk.takes.includes('style') ? desk.styles.map(o => [o.key, o.name]) : []
    const drawn = desk.takes.includes('seed') ? Array.from({length: CHANCES}, (_, i) => i + 1) : []
    const chances = drawn.map(n => [`seed:${n}`, `variation ${n}`])
    const all = [['', 'unchanged'], ...photos, ...chances]
    return all.map(([value, textContent]) => element('option', {value, textContent}))
  }

  #radio(value) { return element('input', {type: 'radio', name: 'style', value}) }

  #entry(found) {
    const {key, name} = found, image = element('img', {src: this.#url(found), alt: ''})
    const label = element('label', {title: name}, this.#radio(key), image, element('span', {textContent: name}))
    const close = element('button', {className: 'icon quiet', ariaLabel: `Remove ${name}`, title: 'Remove'})
    close.append(icon('close'))
    close.addEventListener('click', () => this.#drop(key))
    return element('div', {}, label, close)
  }

  #mark() {
    const {desk} = this, name = desk.names[desk.cls], {style, to, amount} = desk.regions[name] ?? {}
    for (const o of byId('styles').querySelectorAll('input')) o.checked = o.value === (desk.style ?? '')
    byId('region').hidden = !desk.regional || byId('region-to').options.length < 2
    byId('region-name').textContent = name ?? ''
    byId('region-from').value = style ?? ''
    byId('region-to').value = to ?? ''
    byId('region-amount').value = amount ?? 0
  }
}
