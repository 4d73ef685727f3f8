"""From a stroke to its picture in the page: `python benchmarks/page.py MODEL...` prints a JSON line for each model.

It starts `gaugan paint`, opens the page in Debian's chromium (playwright), paints, and reads the page's own clock:
from the last change of the map to the picture on the canvas. A dab is one click; a stroke is a drag that is painted on
the way, so that its last picture waits for the one before."""
import argparse, json, sys
from pathlib import Path
import numpy as np

sys.path.insert(0, str(Path(__file__).parent.parent/'tests'))
from browsing import Hand, Server, chromium

def times(hand, paint, n, rng):
    "Milliseconds of n pictures of a map with one stroke more, after three that do not count"
    res = []
    for _ in range(n + 3):
        hand.choose(cls=int(rng.integers(hand.js('painter.desk.classes.length'))))
        paint(hand, rng.uniform(.1, .9, (3, 2))*hand.js('[painter.desk.grid.w, painter.desk.grid.h]'))
        res.append(int(hand.settle().js("parseInt(document.getElementById('pace').textContent)")))
        hand.key('Control+z')
        hand.settle()
    return res[3:]

def dab(hand, points): hand.click(*points[0])
def stroke(hand, points): hand.drag(*points, steps=8)

def measured(hand, model, n):
    hand.open(model)
    found = {how.__name__: times(hand, how, n, np.random.default_rng(0)) for how in (dab, stroke)}
    sizes = dict(model=model, pixels=hand.js('painter.desk.model.size'), n=n)
    at = lambda values, q: round(float(np.percentile(values, q)))
    return sizes | {f'{k}_p{q}_ms': at(v, q) for k, v in found.items() for q in (50, 95)}

def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('models', nargs='*', default=['landscapes_sean', 'landscapes'])
    parser.add_argument('--n', type=int, default=30, help='pictures of each kind')
    options = parser.parse_args()
    server = Server(options.models)
    server.start()
    try:
        with chromium() as browser:
            for o in options.models:
                found = measured(Hand(browser.new_page(), server), o, options.n)
                print(json.dumps(found), flush=True)
    finally: server.stop()

if __name__ == '__main__': main()
