#!/usr/bin/env python
"Draw the embedded data: `python tools/make_data.py` writes data/landscapes and data/maps, `... FOLDER` elsewhere"
import argparse
from pathlib import Path
from PIL import Image
from gaugan_fastai.data.canvas import *
from gaugan_fastai.data.landscapes import write_landscapes

def clouds(c, *places):
    for x, y, s in places:
        c.ellipse(x, y, 1.7*s, .5*s, CLOUD, .5)
        for dx, r in ((-.7, .7), (.1, .9), (.8, .6)):
            c.ellipse(x+dx*s, y-.3*s, r*s, .6*r*s, CLOUD, .3)

def bay():
    "A lighthouse over a bay"
    c = Canvas((256, 256), horizon=.46, seed=1)
    clouds(c, (.25, .16, .09), (.8, .27, .06))
    c.ellipse(.72, .2, .045, .045, SUN)
    c.polygon([(.45, .46), (.6, .4), (.75, .42), (.9, .37), (1, .4), (1, .46)], HILL)
    c.below(.46, WATER)
    shore = [(0, .5), (.16, .52), (.27, .58), (.3, .68), (.42, .8), (.7, .86), (1, .84)]
    c.polygon([(0, 1), *shore, (1, 1)], SAND)
    edge = [(0, .47), (.12, .49), (.22, .56), (.22, .7), (.36, .88), (.7, .94), (1, .92)]
    c.polygon([(0, 1), *edge, (1, 1)], GRASS)
    c.tower(.13, .56, .36)
    for x, y, r in ((.3, .66, .04), (.36, .72, .03), (.62, .9, .05)):
        c.ellipse(x, y, r, .7*r, ROCK, .3)
    return c.seg

def road():
    "A road to the mountains"
    c = Canvas((256, 256), horizon=.48, seed=2)
    clouds(c, (.3, .12, .08), (.75, .18, .07))
    ridge = [(0, .3), (.1, .24), (.2, .32), (.38, .1),
        (.5, .24), (.58, .18), (.78, .36), (1, .28)]
    c.polygon([(0, .48), *ridge, (1, .48)], MOUNTAIN)
    c.polygon([(.3, .21), (.38, .1), (.45, .185), (.41, .2), (.38, .17), (.34, .22)], SNOW)
    c.polygon([(.55, .2), (.58, .18), (.62, .22), (.58, .22)], SNOW)
    trees = [(0, .42), (.25, .44), (.5, .47), (.75, .43), (1, .4)]
    c.polygon([(0, .48), *trees, (1, .48)], FOREST)
    c.below(.48, GRASS)
    c.polygon([(0, .6), (.3, .53), (.38, .56), (0, .74)], FIELD)
    c.road(ROAD, .62, .42, .16, .22, 1.)
    for x, y, s in ((.16, .62, .2), (.82, .66, .3), (.93, .74, .36), (.07, .9, .44)):
        c.fir(x, y, s)
    return c.seg

def island():
    "An island under the moon"
    c = Canvas((256, 256), horizon=.5, seed=3)
    c.ellipse(.25, .17, .05, .05, MOON)
    clouds(c, (.72, .14, .07))
    c.below(.5, WATER)
    c.ellipse(.55, .6, .36, .08, SAND, .2)
    c.ellipse(.55, .565, .3, .075, GRASS, .2)
    c.polygon([(.4, .56), (.48, .38), (.53, .42), (.58, .33), (.7, .56)], ROCK)
    c.house(.36, .59, .13, n_windows=2)
    c.oak(.74, .6, .24)
    c.oak(.66, .62, .18)
    return c.seg

def village():
    "A winter village at a frozen bend of the river"
    c = Canvas((256, 256), horizon=.42, seed=4)
    clouds(c, (.5, .12, .1))
    peaks = [(0, .2), (.15, .12), (.3, .27), (.5, .17), (.72, .3), (.9, .2), (1, .26)]
    c.polygon([(0, .42), *peaks, (1, .42)], SNOW)
    slopes = [(0, .33), (.2, .3), (.42, .36), (.6, .31), (.8, .37), (1, .32)]
    c.polygon([(0, .42), *slopes, (1, .42)], MOUNTAIN)
    c.polygon([(0, .42), (0, .38), (.3, .4), (.7, .38), (1, .39), (1, .42)], FOREST)
    c.below(.42, SNOW)
    c.road(WATER, .2, .55, .24, .3, .9)
    houses = (.72, .55, .16, 0), (.88, .58, .18, .5), (.66, .68, .22, .7), (.2, .56, .16, 0)
    for x, y, s, ridge in houses: c.house(x, y, s, 1.1, ridge, 2)
    for x, y, s in ((.06, .66, .3), (.92, .86, .42), (.5, .54, .14)): c.fir(x, y, s)
    return c.seg

def meadow():
    "One great tree on a hill"
    c = Canvas((256, 256), horizon=.6, seed=5)
    clouds(c, (.2, .25, .08), (.85, .15, .09))
    c.polygon([(0, .6), (0, .5), (.3, .54), (.6, .5), (1, .55), (1, .6)], HILL)
    c.below(.6, FIELD)
    c.ellipse(.55, 1.05, .75, .42, GRASS)
    c.oak(.5, .8, .68)
    c.ellipse(.8, .83, .06, .04, ROCK, .3)
    return c.seg

def letters():
    "Writing on the water: a map no rule would draw"
    c = Canvas((256, 256), horizon=.3, seed=6)
    clouds(c, (.7, .1, .07))
    hills = [(0, .2), (.25, .24), (.5, .18), (.8, .26), (1, .22)]
    c.polygon([(0, .3), *hills, (1, .3)], HILL)
    c.below(.3, WATER)
    for x, code in ((.16, SAND), (.5, GRASS), (.84, ROCK)): c.quad(x, .88, .42, .28, .28, code)     # cut to G A N
    c.polygon([(.11, .52), (.3, .52), (.3, .79), (.11, .79)], WATER)
    c.polygon([(.18, .64), (.3, .64), (.3, .88), (.22, .88), (.22, .71), (.18, .71)], SAND)
    a = ([(.36, .42), (.46, .42), (.36, .88)], [(.64, .42), (.54, .42), (.64, .88)],
        [(.5, .52), (.53, .66), (.47, .66)])
    n = [(.79, .42), (.89, .42), (.89, .66)], [(.79, .88), (.89, .88), (.79, .64)]
    for hole in (*a, [(.46, .74), (.54, .74), (.57, .88), (.43, .88)], *n): c.polygon(hole, WATER)
    c.below(.93, SAND)
    return c.seg

MAPS = (bay, road, island, village, meadow, letters)

def write_maps(path):
    "Write the hand-made maps as 8-bit grey PNG of class ids, 256x256"
    path = Path(path)
    path.mkdir(parents=True, exist_ok=True)
    for f in MAPS: Image.fromarray(f()).save(path/f'{f.__name__}.png', optimize=True)

if __name__ == '__main__':
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    usual = Path(__file__).resolve().parent.parent/'data'
    p.add_argument('root', nargs='?', type=Path, default=usual, help='the folder')
    root = p.parse_args().root
    write_landscapes(root/'landscapes', n_train=24, n_val=8, size=128, seed=0)
    write_maps(root/'maps')
