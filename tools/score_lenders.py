#!/usr/bin/env python
"""Which photo should lend a code to one that lacks it? Rules compared on the prior of a SEAN of drawn landscapes.

    OMP_NUM_THREADS=1 python tools/score_lenders.py data/weights/landscapes_sean

Every code of the prior (tools/style_prior.py made it from scenes of seeds 1000 on) is hidden in turn, but the sky's,
and each rule names the photo that lends another. Since the scenes are drawn, their light and season are known. Printed:
squared distance from the true code in variances of the class (2: chance); mean difference of four colours of the light
(direct, ambient, zenith, horizon); how often it is the same season. `CodesPrior.fill` follows the last rule.
"""
import argparse
import numpy as np, torch
from gaugan_fastai.core import InputError
from gaugan_fastai.data.daylight import draw_style
from gaugan_fastai.pretrained import from_pretrained
from style_prior import FIRST

def mean_of(far, both):
    total, n = (far*both).sum(-1), both.sum(-1)
    return torch.where(n > 0, total/n.clamp_min(1), torch.inf)

# name -> how far each photo is, from squared distances `[N,K]` (plain, in variances), the classes that both show
# and those that the asking photo shows, `[N,K]` and `[K]`
rules = {'by chance': lambda plain, scaled, both, has: torch.from_numpy(np.random.default_rng(0).random(len(both))),
    'nearest sky': lambda plain, scaled, both, has: plain[:, 0],
    'mean over what both show': lambda plain, scaled, both, has: mean_of(plain, both),
    'the same in variances': lambda plain, scaled, both, has: mean_of(scaled, both),
    'what the lender lacks counts 2': lambda plain, scaled, both, has: (torch.where(both, scaled, 2.)*has).sum(-1)}

def lender(rule, prior, i, k):
    "Who lends photo i a code of class k"
    has = prior.shows[i].clone()
    has[k] = False
    plain = ((prior.codes - prior.codes[i])**2).sum(-1)
    able = prior.shows[:, k].clone()
    able[i] = False
    far = rule(plain, plain/prior.spread, prior.shows & has, has)
    if rule is rules['by chance']: far = far.roll(i*prior.shows.shape[1] + k)
    return far.where(able, torch.inf).argmin().item()

def score(rule, prior, days):
    "Code, light, season"
    there = prior.shows & (prior.shows.sum(0) > 1)   # somebody can lend it
    asked = [(i, k) for i, k in there.nonzero().tolist() if k]
    lent = [(i, k, lender(rule, prior, i, k)) for i, k in asked]
    def off(i, k, j): return ((prior.codes[i, k] - prior.codes[j, k])**2).sum()/prior.spread[k]
    code = [off(*o).item() for o in lent]
    lights = np.array([[o['light'], o['ambient'], o['sky'], o['horizon']] for o in days])
    light = [abs(lights[i] - lights[j]).mean() for i, _, j in lent]
    season = [days[i]['season'] == days[j]['season'] for i, _, j in lent]
    return [np.mean(o) for o in (code, light, season)]

def main(argv=None):
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('model', help='folder with weights and a prior of codes')
    a = p.parse_args(argv)
    prior = getattr(from_pretrained(a.model), 'prior', None)
    what = f'{a.model} has no prior of codes'
    if not hasattr(prior, 'fill'): raise InputError(what, 'tools/style_prior.py makes one')
    days = [draw_style(FIRST + i) for i in range(len(prior))]
    print('| lender | code | light | same season |\n|---|---|---|---|')
    for name, rule in rules.items():
        code, light, season = score(rule, prior, days)
        print(f'| {name} | {code:.2f} | {light:.3f} | {season:.0%} |')

if __name__ == '__main__':
    try: main()
    except InputError as e: raise SystemExit(f'score_lenders: {e}')
