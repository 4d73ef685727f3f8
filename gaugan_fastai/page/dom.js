// Small helps with the page's elements.

// An element with properties and children
export function element(tag, {data = {}, ...props} = {}, ...children) {
  const res = Object.assign(document.createElement(tag), props)
  Object.assign(res.dataset, data)
  res.append(...children)
  return res
}

export const byId = id => document.getElementById(id)

// A file for the user
export function download(blob, name) {
  const url = URL.createObjectURL(blob)
  element('a', {href: url, download: name}).click()
  setTimeout(() => URL.revokeObjectURL(url), 60_000)
}

// Scroll a box, and nothing around it, so that an element of it is seen
export function reveal(what, box) {
  if (!what) return
  const a = what.getBoundingClientRect(), b = box.getBoundingClientRect()
  box.scrollTop += Math.max(0, a.bottom - b.bottom) || Math.min(0, a.top - b.top)
  box.scrollLeft += Math.max(0, a.right - b.right) || Math.min(0, a.left - b.left)
}

const SVG = 'http://www.w3.org/2000/svg'

// One of the page's icons
export function icon(name) {
  const svg = document.createElementNS(SVG, 'svg'), use = document.createElementNS(SVG, 'use')
  use.setAttribute('href', `#i-${name}`)
  svg.append(use)
  return svg
}
