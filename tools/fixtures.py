#!/usr/bin/env python
"""Print how far our networks are from the originals' numbers, as a table.

    GAUGAN_SHARED=../shared python tools/fixtures.py                          prints it
    GAUGAN_SHARED=../shared python tools/fixtures.py --write docs/fixtures.md writes it

The cases are those of the tests (tests/reference_cases.py, sean_cases.py, test_clade.py, test_oasis.py). Exits with 1
if one of them is beyond its limit.
"""
import argparse, sys
from pathlib import Path
sys.path.insert(0, str(Path(__file__).parent.parent/'tests'))

HEAD = """# Against the originals' numbers

Beside the project lie numbers that the public code of the authors of SPADE, SEAN, CLADE and OASIS computed with \
random weights: pictures, features, buffers, losses,
gradients. Here is the largest absolute difference of our networks from them, over everything that a case holds. \
Losses reach from 0.1 to 100,
pictures from -1 to 1; the originals' own float32 and float64 answers differ by 1e-6 to 1e-5. \
Made by `python tools/fixtures.py --write docs/fixtures.md`.
"""

def rows():
    "Yield (case, what is compared, largest difference, limit)"
    import reference_cases as r, sean_cases as s, test_clade, test_oasis
    for case in r.GENERATORS:
        diffs = r.generator_gaps(case)
        yield f'generator {case}', ', '.join(words(diffs)), max(diffs.values()), r.TOL
    maps = r.critic_maps('spade/disc')
    yield 'critic disc, every layer', 'features and predictions of fake and real', r.worst(maps), r.TOL
    preds, buffers = r.critic_train_pairs()
    yield 'critic disc, training', 'predictions, buffers after it', max(r.worst(preds), r.worst(buffers)), r.TOL
    for mode in ('eval', 'train'):
        diffs = r.critic_loss_gaps(mode)
        yield f'losses of the generator, {mode}', ', '.join(words(diffs)), max(diffs.values()), r.TOL
        for ours in r.MODES:
            gap = r.gan_mode_gap(ours, mode)
            yield f'objective {ours}, {mode}', 'generator, critic on fake, critic on real', gap, 1e-5
    diffs = r.vgg_gaps()
    yield 'perceptual loss (VGG19)', ', '.join(words(diffs)), max(diffs.values()), r.TOL
    for size in r.ENCODER_SIZES:
        diffs = r.encoder_gaps(size)
        yield f'encoder {size}', ', '.join(words(diffs)), max(diffs.values()), r.TOL
    yield from sean_rows(s)
    yield from clade_rows(test_clade)
    yield from oasis_rows(test_oasis)

def sean_rows(s):
    "The same for SEAN"
    for case in s.CASES:
        diffs = s.generator_gaps(case)
        yield f'SEAN {case}', ', '.join(diffs), max(diffs.values()), s.TOL
    yield 'SEAN critic, every layer', 'features and predictions of fake and real', max(s.critic_gaps().values()), s.TOL

def painted(gen, given, t, gap):
    "Largest differences of a generator's pictures, by name"
    import torch
    with torch.no_grad():
        res = dict(out_eval=gap(gen(**given), t['out_eval']))
        res |= dict(for_inference=gap(gen.for_inference()(**given), t['out_eval']))
        return res | dict(out_train1=gap(gen.train()(**given), t['out_train1']))

def clade_rows(c):
    "The same for CLADE, whose scales and shifts are rows of a table: without and with places"
    for case in ('edge64', 'icpe64'):
        path, given, t = c.reference(case)
        diffs = painted(c.load_original(path), given, t, c.gap)
        yield f'CLADE {case}', ', '.join(diffs), max(diffs.values()), c.TOL

def oasis_rows(o):
    "The same for OASIS: generators with and without noise, and its critic"
    for case in o.GENERATORS:
        gen, t = o.generator(case)
        diffs = painted(gen, dict(segmap=t['label'][:, 0].long(), z=t.get('z')), t, o.gap)
        yield f'OASIS {case}', ', '.join(diffs), max(diffs.values()), o.TOL
    info, t, state = o.reference('disc64')
    critic = o.SegmentationCritic(info['options']['semantic_nc'])
    critic.load_state_dict(state)
    seen = dict(logits_fake=o.picture(t['fake_u8']), logits_real=o.picture(t['real_u8']), logits_mixed=t['mixed'])
    gaps = [o.gap(critic.eval()(x).detach(), t[k]) for k, x in seen.items()]
    yield 'OASIS critic', ', '.join(seen), max(gaps), o.TOL

def words(diffs):
    "Names of what was compared; the many activations are counted"
    acts = [k for k in diffs if k.startswith('act_eval.')]
    return [k for k in diffs if k not in acts] + [f'{len(acts)} activations']*bool(acts)

def main(argv=None):
    "Print or write the table; 0, or 1 where a difference is beyond its limit"
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('--write', metavar='FILE', help='write the table there instead of printing it')
    a = p.parse_args(argv)
    found = list(rows())
    lines = ['| case | compared | largest difference | limit |', '|---|---|---|---|']
    lines += [f'| {case} | {what} | {diff:.1e} | {limit:.0e} |' for case, what, diff, limit in found]
    if a.write: Path(a.write).write_text('\n'.join([HEAD, *lines, '']), encoding='utf-8')
    else: print('\n'.join(lines))
    return int(any(diff > limit for *_, diff, limit in found))

if __name__ == '__main__': sys.exit(main())
