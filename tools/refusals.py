#!/usr/bin/env python
"""Damage a saved model in every way we know, and print what is said: the table of docs/sharing.md.

    python tools/refusals.py            prints the table
    python tools/refusals.py --write    puts it into docs/sharing.md, between its two marks

Every row must be refused with an `InputError`; one that is read, or ends in another error, ends the tool.
"""
import argparse, json, pickle, re, shutil, sys, tempfile, warnings
from pathlib import Path
import torch
from safetensors.torch import save
from gaugan_fastai.core import InputError, LabelSpace
from gaugan_fastai.encoder import StyleEncoder
from gaugan_fastai.hub import files_to_fetch
from gaugan_fastai.models.spade import SPADEGenerator
from gaugan_fastai.pretrained import from_pretrained, load_original, save_pretrained
from gaugan_fastai.weights import checksum

DOCS = Path(__file__).resolve().parent.parent/'docs/sharing.md'
MARKS = '<!-- refusals -->', '<!-- end of refusals -->'

def model(folder, seed=0):
    "A small painter with styles and its encoder, saved"
    torch.manual_seed(seed)
    gen, encoder = SPADEGenerator(3, ngf=2, nhidden=4, z_dim=4, size=32), StyleEncoder(ndf=2, z_dim=4, size=32)
    return save_pretrained(gen, folder, LabelSpace(['sky', 'water', 'land'], void=None), encoder=encoder)

# -- what is done to a folder ----------------------------------------------------------------------------------------

class Bang:
    "An object whose pickle runs code"
    def __reduce__(self): return print, ('code of a stranger has run',)

def card(folder, **changes):
    file = folder/'model.json'
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))

def weights(folder, data, fits=True):
    "Put other weights into a folder, with a card whose checksum fits them"
    (folder/'model.safetensors').write_bytes(data)
    if fits: card(folder, sha256={'model.safetensors': checksum(data)})

def cut(folder, name='model.safetensors', part=.5):
    data = (folder/name).read_bytes()
    (folder/name).write_bytes(data[:int(part*len(data))])

def one_bit(folder):
    data = bytearray((folder/'model.safetensors').read_bytes())
    data[-1] ^= 1
    (folder/'model.safetensors').write_bytes(data)

def header(text): return len(text).to_bytes(8, 'little') + text

def state(folder, **changes):
    "The weights of a folder, some of them changed"
    tensors = SPADEGenerator(3, ngf=2, nhidden=4, z_dim=4, size=32).state_dict() | changes
    weights(folder, save({k: v.contiguous() for k, v in tensors.items() if v is not None}))

def other_encoder(folder):
    shutil.rmtree(folder/'encoder')
    shutil.copytree(model(folder.parent/'other', 1)/'encoder', folder/'encoder')

HUGE = b'{"fc.bias":{"dtype":"F32","shape":[1000000000000],"data_offsets":[0,4]}}'
LOCAL = {
    'no folder': lambda o: shutil.rmtree(o),
    'no card': lambda o: (o/'model.json').unlink(),
    'no weights': lambda o: (o/'model.safetensors').unlink(),
    'weights cut off': cut,
    'weights empty': lambda o: (o/'model.safetensors').write_bytes(b''),
    'one bit changed': one_bit,
    'bytes added': lambda o: weights(o, (o/'model.safetensors').read_bytes() + b'x', fits=False),
    'card cut off': lambda o: cut(o, 'model.json'),
    'card of another program': lambda o: (o/'model.json').write_text('{"architectures": ["UNet"]}'),
    'card nested 100,000 times': lambda o: (o/'model.json').write_text('['*10**5),
    'card of an unknown network': lambda o: card(o, model='os.system'),
    'card with a network of 10^9 channels': lambda o: card(o, config=dict(n_classes=3, ngf=10**9)),
    'card with nonsense for classes': lambda o: card(o, labels=dict(codes=3)),
    'encoder outside of the folder': lambda o: card(o, encoder='../../etc'),
    'encoder of another model': other_encoder,
    'a pickle as weights': lambda o: weights(o, pickle.dumps(Bang())),
    'a header of 2^62 bytes': lambda o: weights(o, (2**62).to_bytes(8, 'little') + b'{}'),
    'a header that is no JSON': lambda o: weights(o, header(b'{"fc.bias": ')),
    'a tensor of 4 TB in 4 bytes': lambda o: weights(o, header(HUGE) + b'abcd'),
    'numbers that are none': lambda o: state(o, **{'fc.bias': torch.full((512,), float('nan'))}),
    'a tensor missing': lambda o: state(o, **{'fc.bias': None}),
    'a tensor too many': lambda o: state(o, more=torch.zeros(1)),
    'a tensor of another shape': lambda o: state(o, **{'conv_img.bias': torch.zeros(4)})}

USUAL = {'model.json': 2000, 'model.safetensors': 9_000_000}
HUB = {
    'only pickles': {'pytorch_model.bin': 9, 'config.json': 9},
    'a name with ..': USUAL | {'../../.bashrc': 9},
    'an absolute name': USUAL | {'/etc/passwd': 9},
    'a terabyte of weights': USUAL | {'model.safetensors': 2**40}}

CHECKPOINTS = {
    'a pickle that runs code': lambda: pickle.dumps(Bang()),
    'no checkpoint at all': lambda: b'GIF89a'}

# -- the table -------------------------------------------------------------------------------------------------------

def said(name, f, *args):
    "The sentence of a refusal"
    try: f(*args)
    except InputError as e: return str(e)
    raise SystemExit(f'refusals: {name} was not refused')

def rows():
    "(where, what is wrong, what is said) of every damage"
    for name, damage in LOCAL.items():
        with tempfile.TemporaryDirectory() as tmp:
            folder = model(Path(tmp)/'model')
            damage(folder)
            yield 'folder', name, said(name, from_pretrained, folder).replace(f'{tmp}/', '')
    for name, make in CHECKPOINTS.items():
        with tempfile.TemporaryDirectory() as tmp:
            (Path(tmp)/'net.pth').write_bytes(make())
            yield 'checkpoint', name, said(name, load_original, Path(tmp)/'net.pth').replace(f'{tmp}/', '')
    for name, listed in HUB.items(): yield 'hub', name, said(name, files_to_fetch, listed, 'mallory/model')

def short(text, n=230):
    text = re.sub(r'(this version knows) \(.*\)', r'\1', ' '.join(text.split()).replace('|', '\\|'))
    return text if len(text) <= n else text[:n - 4] + ' ...'

def table():
    lines = [f'| {where} | {what} | {short(words)} |' for where, what, words in rows()]
    return '\n'.join(['| where | what is wrong | what is said |', '| --- | --- | --- |', *lines])

def main(argv=None):
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('--write', action='store_true')
    warnings.simplefilter('ignore')
    made = table()
    if not p.parse_args(argv).write: return print(made)
    before, rest = DOCS.read_text(encoding='utf-8').split(MARKS[0])
    DOCS.write_text(f'{before}{MARKS[0]}\n{made}\n{MARKS[1]}{rest.split(MARKS[1])[1]}', encoding='utf-8')

if __name__ == '__main__': sys.exit(main())
