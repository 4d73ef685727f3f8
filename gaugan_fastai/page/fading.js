// A box that scrolls shows it: its content fades where more of it lies.

const SOME = 4   // pixels of the screen that do not count

export function fades(box) {
  function mark() {
    const {scrollTop: y, scrollLeft: x, scrollHeight, clientHeight, scrollWidth, clientWidth} = box
    const below = scrollHeight - clientHeight - y, right = scrollWidth - clientWidth - x
    for (const [side, more] of Object.entries({above: y, below, left: x, right}))
      box.classList.toggle(`more-${side}`, more > SOME)
  }
  box.addEventListener('scroll', mark, {passive: true})
  const sizes = new ResizeObserver(mark), watch = () => [box, ...box.children].forEach(o => sizes.observe(o))
  new MutationObserver(() => { watch(); mark() }).observe(box, {childList: true, subtree: true, attributes: true,
    attributeFilter: ['hidden']})
  watch()
}
