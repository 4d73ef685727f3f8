"""Models that the learner knows nothing about: three turns without a critic, one turn as in diffusion, maps that are no tensor."""
import copy, itertools
from types import SimpleNamespace

import pytest, torch
from fastai.vision.all import Callback, DataLoader, DataLoaders, GradientAccumulation, GradientClip, MixedPrecision, partial
from torch import nn

from gaugan_fastai.callbacks import ModelAverage
from gaugan_fastai.core import InputError
from gaugan_fastai.learner import SynthesisLearner
from gaugan_fastai.trainer import TurnsLearner
from gaugan_fastai.turns import GANAdam, SynthesisGAN, Turn, TurnsAdam, TurnsModel, turn_groups
from gaugan_fastai.watch import LossColumn
from witness import OneMoves

def loaders(*shapes, n=8, bs=2, n_inp=None):
    "The same random pictures for each call"
    g = torch.Generator().manual_seed(0)
    items = [tuple(torch.rand(o, generator=g) for o in shapes) for _ in range(n)]
    dls = DataLoaders(DataLoader(items, bs=bs), DataLoader(items[:2], bs=bs))
    dls.n_inp = len(shapes) if n_inp is None else n_inp
    return dls

def quiet(learn, n=1, **kwargs):
    with learn.no_bar(), learn.no_logging(): learn.fit(n, **kwargs)
    return learn

def parameters(learn): return {k: p.detach().clone() for k, p in learn.model.named_parameters()}
def same(a, b): return a.keys() == b.keys() and all(torch.equal(v, b[k]) for k, v in a.items())

# -- three turns, no critic, no targets ---------------------------------------------------------------------------

class Cycle(TurnsModel):
    "Two unpaired pictures: one network goes there, one comes back, a third says how bright what was made is"
    needs_target = False
    def __init__(self):
        self.there, self.back, self.bright = (nn.Sequential(nn.Conv2d(3, n, 1), nn.BatchNorm2d(n)) for n in (3, 3, 1))
        self.prepared = []

    @property
    def turns(self):
        nets = dict(there=self.there, back=self.back, bright=self.bright)
        return [Turn(n, list(net.parameters()), getattr(type(self), f'{n}_losses')) for n, net in nets.items()]

    def prepare(self, a, b):
        self.prepared.append(len(a))
        return SimpleNamespace(a=a, b=b),

    def make(self, a, b=None): return self.there(a)
    def averaged(self): return {'there.': self.there, 'back.': self.back}
    def rehearse(self, xb, target): self.back(self.there(xb[0]))

    def there_losses(self, both, target, made):
        assert made is None
        made = self.there(both.a)
        return made, dict(cycle=(self.back(made) - both.a).abs().mean(), low=made.square().mean())
    def back_losses(self, both, target, made): return dict(cycle_back=(self.there(self.back(both.b)) - both.b).abs().mean())
    def bright_losses(self, both, target, made):
        return dict(bright=(self.bright(made.detach()).mean((1, 2, 3)) - made.detach().mean((1, 2, 3))).square().mean())

PICTURE = 3, 4, 4
def cycle(path='.', **kwargs):
    torch.manual_seed(0)
    return TurnsLearner(loaders(PICTURE, PICTURE), Cycle(), lr=.01, path=path, **kwargs)

def test_three_turns_without_a_critic_and_without_targets():
    learn = quiet(cycle(cbs=OneMoves()), 2)
    assert learn.one_moves.names == ['there', 'back', 'bright']*8
    assert learn.model.prepared == ([2]*4 + [2])*2   # once a batch
    first, last = (o['train'] for o in learn.history)
    assert list(first) == ['cycle', 'low', 'cycle_back', 'bright'] and last['cycle'] < first['cycle']
    assert len(learn.recorder.losses) == 8 and learn.recorder.losses[-1] < learn.recorder.losses[0]
    quiet(learn, reset_opt=True)
    assert learn.one_moves.names == ['there', 'back', 'bright']*4

def test_losses_that_nobody_has_named_get_columns_from_the_second_fit():
    learn = quiet(cycle())
    assert list(learn.recorder.metric_names) == ['epoch', 'train_loss', 'valid_loss', 'time']
    quiet(learn)
    assert list(learn.recorder.metric_names)[3:-1] == ['cycle', 'low', 'cycle_back', 'bright']
    assert learn.recorder.values[-1][2] == pytest.approx(learn.history[-1]['train']['cycle'])
    quiet(learn)
    assert sum(isinstance(o, LossColumn) for o in learn.metrics) == 4

def test_it_is_saved_and_resumed_bit_for_bit(tmp_path):
    whole, half, again = (cycle(tmp_path, cbs=ModelAverage(.9)) for _ in range(3))
    quiet(whole, 2)
    quiet(half).save('half')
    quiet(again.load('half'))
    assert same(whole.model.state_dict(), again.model.state_dict())
    assert same(whole.model_average.shadow, again.model_average.shadow)
    fewer = GANAdam([[nn.Parameter(torch.zeros(3))] for _ in range(3)]).state_dict()
    assert again.opt.misfit(fewer) == "it has a turn 'generator', but here they are there, back, bright"

def test_the_networks_that_are_named_are_averaged():
    learn = cycle(cbs=ModelAverage(.9))
    live, decay = {k: v.clone() for k, v in parameters(learn).items()}, iter([2/11, 3/12])
    class Plain(Callback):
        order = ModelAverage.order + 1
        def after_batch(self):
            if not self.training or self.train_iter > 2: return
            d = next(decay)
            for k, p in parameters(self.learn).items(): live[k] = d*live[k] + (1 - d)*p
            for k, p in self.learn.model_average.shadow.items(): torch.testing.assert_close(p, live[k])
    quiet(learn, cbs=Plain())
    assert next(decay, None) is None
    assert learn.model_average.shadow.keys() == {k for k in live if not k.startswith('bright')}
    made, model = learn.frozen_model(), learn.model
    assert not torch.equal(made.there[0].weight, model.there[0].weight) and torch.equal(made.bright[0].weight, model.bright[0].weight)
    out = torch.cat([made.there[0](xb[0]) for xb, _ in learn.model_average.batches])
    torch.testing.assert_close(made.there[1].running_mean, out.mean((0, 2, 3)))

def test_groups_are_the_turns_and_the_first_can_be_frozen():
    learn = cycle(splitter=lambda m: [list(m.there[0].parameters()), list(m.there[1].parameters()), *turn_groups(m)[1:]])
    learn.freeze()
    was = parameters(learn)
    quiet(learn)
    moved = {k.rpartition('.')[0] for k, v in parameters(learn).items() if not torch.equal(v, was[k])}
    assert moved == {'there.1', 'back.0', 'back.1', 'bright.0', 'bright.1'}
    with pytest.raises(InputError, match='freeze_to.5.: the there has 2 parameter groups'): learn.freeze_to(5)

def test_predictions_and_copies_of_it():
    learn = quiet(cycle())
    with learn.no_bar(): preds, _ = learn.get_preds()
    assert preds.shape == (2, *PICTURE)
    other = quiet(copy.deepcopy(learn))
    assert not same(parameters(other), parameters(learn))
    assert other.opt.param_lists[0][0] is other.model.there[0].weight

# -- one turn, as in diffusion --------------------------------------------------------------------------------------

class Denoiser(TurnsModel):
    "Guess the noise in a noisy photo, beside a map of labels"
    def __init__(self):
        self.net = nn.Conv2d(4, 3, 3, padding=1)
        self.turns = [Turn('noise', list(self.parameters()), self.losses, names=('noise',))]
    def make(self, labels): return self.net(torch.cat([labels, torch.zeros_like(labels).expand(-1, 3, -1, -1)], 1))
    @staticmethod
    def losses(model, labels, target, made):
        noise = torch.randn_like(target)
        guess = model.net(torch.cat([labels, target + noise], 1))
        return guess, dict(noise=(guess - noise).square().mean())

def denoiser(path='.', **kwargs):
    torch.manual_seed(0)
    return TurnsLearner(loaders((1, 4, 4), PICTURE, n_inp=1), Denoiser(), lr=.01, path=path, **kwargs)

@pytest.mark.parametrize('half', ['to_fp32', 'to_bf16', 'to_fp16'])
def test_one_turn(half, tmp_path):
    learn, seen = denoiser(tmp_path, cbs=[OneMoves(), ModelAverage(.5)]), []
    learn.to_fp16(init_scale=64.) if half == 'to_fp16' else getattr(learn, half)()
    learn.model.net.register_forward_hook(lambda m, i, o: seen.append(o.dtype))
    quiet(learn, 3)
    assert learn.one_moves.names == ['noise']*12 and seen[0] == (learn.autocast_dtype or torch.float32)
    assert learn.history[-1]['train']['noise'] < learn.history[0]['train']['noise']
    assert list(learn.recorder.metric_names) == ['epoch', 'train_loss', 'valid_loss', 'noise', 'time']
    learn.load(learn.save('a').stem)
    other = copy.deepcopy(learn)   # its turns are its own
    assert other.model.turns[0].movers[0] is other.model.net.weight
    with learn.no_bar(): assert learn.lr_find(num_it=20, show_plot=False).valley > 0

def test_without_a_target_nothing_is_learnt():
    learn = quiet(denoiser())
    learn.dls.n_inp = 1
    dl = DataLoader([(torch.rand(1, 4, 4),)]*3, bs=3)
    with learn.no_bar(): preds, _ = learn.get_preds(dl=dl)
    assert preds.shape == (3, *PICTURE) and learn.turn_losses == {}

# -- accumulated and clipped gradients ------------------------------------------------------------------------------

class Three(TurnsModel):
    "Three networks that have nothing to do with each other, each with a turn"
    def __init__(self, share=False):
        self.nets = nn.ModuleList(nn.Conv2d(3, 3, 1) for _ in range(3))
        self.share = share
    @property
    def turns(self):
        movers = [list(self.nets[0 if self.share else i].parameters()) for i in range(3)]
        return [Turn(n, movers[i], partial(self.losses, i=i)) for i, n in enumerate('abc')]
    def make(self, x): return self.nets[0](x)
    @staticmethod
    def losses(model, x, target, made, i):
        out = model.nets[0 if model.share else i](x)
        return out, {f'off_{i}': (i + 1)*(out - target).abs().mean()}

def three(bs, share=False, **kwargs):
    torch.manual_seed(0)
    return TurnsLearner(loaders(PICTURE, PICTURE, bs=bs, n_inp=1), Three(share), lr=.01, **kwargs)

@pytest.mark.numeric
def test_four_small_batches_are_a_large_one():
    large = quiet(three(8))
    small = quiet(three(2, cbs=[GradientAccumulation(8), OneMoves(gathers=True)]))
    assert small.one_moves.names == ['a', 'b', 'c']
    for k, p in parameters(large).items(): torch.testing.assert_close(parameters(small)[k], p, msg=k)
    for k, v in large.history[0]['train'].items(): assert small.history[0]['train'][k] == pytest.approx(v, rel=1e-5), k

def test_gradients_are_gathered_over_epochs_and_forgotten_between_fits():
    learn = quiet(three(2, cbs=[GradientAccumulation(12), OneMoves(gathers=True)]), 3)
    assert learn.one_moves.names == ['a', 'b', 'c']*2
    quiet(learn)
    assert learn.one_moves.names == []
    assert all(p.grad is not None for p in learn.model.parameters())
    seen = []
    class First(Callback):
        def before_backward(self): seen.append([p.grad for p in self.learn.turn.movers if p.grad is not None])
    quiet(learn, cbs=First())
    assert seen[0] == [] and len(seen[3]) == 2

def test_the_average_waits_for_steps():
    learn = quiet(three(2, cbs=[GradientAccumulation(4), ModelAverage(.9)]), 2)
    assert learn.model_average.t == 4

def test_clipping_is_for_those_whose_turn_it_is():
    "Also while others' gradients are being gathered"
    norms, waiting = [], []
    class Look(Callback):
        order = GradientClip.order + 1
        def norm(self, ps): return nn.utils.get_total_norm([p.grad for p in ps if p.grad is not None]).item()
        def before_step(self):
            mine = {id(p) for p in self.learn.turn.movers}
            norms.append(self.norm(self.learn.turn.movers))
            waiting.append([p.grad.abs().max().item() for p in self.model.parameters() if id(p) not in mine and p.grad is not None])
    quiet(three(2, cbs=[GradientAccumulation(4), GradientClip(1e-3), Look()]))
    assert len(norms) == 6 and max(norms) < 1.01e-3
    assert min(max(o) for o in waiting if o) > 1e-2

@pytest.mark.numeric
@pytest.mark.parametrize('where', ['GradientAccumulation', 'GradientClip'])
def test_scaled_gradients_are_gathered_and_clipped_as_plain_ones(where):
    "float16 that only scales (its forward is made float32): to a bit of rounding the same weights"
    cbs = lambda: GradientAccumulation(4) if where == 'GradientAccumulation' else GradientClip(1e-3)
    plain, scaled = three(2, cbs=cbs()), three(2, cbs=[cbs(), MixedPrecision(init_scale=256.)])
    scaled.autocast = lambda: torch.autocast('cpu', enabled=False)
    quiet(plain), quiet(scaled)
    for k, p in parameters(plain).items(): torch.testing.assert_close(parameters(scaled)[k], p, rtol=1e-4, atol=1e-6, msg=k)

@pytest.mark.numeric
def test_scales_are_kept(tmp_path):
    "float16: two epochs are one, saved, loaded, and one more, bit for bit, while scales grow every third batch"
    whole, half, again = (three(2, path=tmp_path).to_fp16(init_scale=16., growth_interval=3) for _ in range(3))
    scales = lambda learn: [o['scale'] for o in learn.mixed_precision.state_dict().values()]
    quiet(whole, 2)
    quiet(half).save('half')
    quiet(again.load('half'))
    assert scales(half) == [32.]*3 and scales(again) == scales(whole) == [64.]*3
    assert same(whole.model.state_dict(), again.model.state_dict())
    quiet(three(2, path=tmp_path).load('half'))   # also without float16

def test_a_parameter_of_several_turns():
    learn = quiet(three(4, share=True, cbs=OneMoves()))
    assert learn.one_moves.names == ['a', 'b', 'c']*2 and len(learn.opt.param_lists) == 1
    assert all(len(o.state) == 2 for o in learn.opt.inner.values())   # an Adam for each turn
    with pytest.raises(InputError, match='some parameters move in several'): quiet(three(4, share=True, cbs=GradientAccumulation))

# -- the optimiser --------------------------------------------------------------------------------------------------

def turns_of(*names): return [Turn(n, [nn.Parameter(torch.ones(2, 2))], None) for n in names]

@pytest.mark.parametrize('names', [(), ('a', 'a'), ('a', 'hypers')], ids=str)
def test_turns_need_names_of_their_own(names):
    with pytest.raises(InputError, match='each needs a name of its own'): TurnsAdam([[nn.Parameter(torch.ones(2))]], turns_of(*names))

@pytest.mark.numeric
def test_each_turn_has_its_rate():
    turns = turns_of('a', 'b', 'c')
    for turn, mult in zip(turns, (1., 2., .5)): turn.lr_mult = mult
    opt = TurnsAdam([o.movers for o in turns], turns, lr=.1)
    for turn, mult in zip(turns, (1., 2., .5)):
        opt.turn, turn.movers[0].grad = turn.name, torch.ones(2, 2)
        assert [g['params'] for g in opt.param_groups] == [turn.movers]
        opt.step()
        opt.zero_grad()
        torch.testing.assert_close(turn.movers[0].detach(), torch.full((2, 2), 1 - .1*mult))

def test_states_of_the_first_version_load():
    "They are hyper-parameters and the two Adams by name, as `GANAdam` has always written them"
    pair = [[nn.Parameter(torch.ones(2, 2)), nn.Parameter(torch.ones(2))], [nn.Parameter(torch.ones(3))]]
    old = GANAdam(pair, lr=.1, n_gen=1, lr_mults=(.5, 2.))
    for turn, ps in zip(('generator', 'critic'), pair):
        old.turn = turn
        for p in ps: p.grad = torch.rand_like(p)
        old.step()
    sd = old.state_dict()
    assert sd.keys() == {'hypers', 'generator', 'critic'} and sd['critic'].keys() == {'state', 'param_groups'}
    gan = SimpleNamespace(turns=[Turn('generator', pair[0], None), Turn('critic', pair[1], None)])
    new = TurnsAdam(turn_groups(gan), gan.turns)
    assert new.misfit(sd) == ''
    new.load_state_dict(sd)
    for n in ('generator', 'critic'):
        a, b = (list(o.inner[n].state.values()) for o in (old, new))
        assert len(a) > 0 and all(torch.equal(x['exp_avg'], y['exp_avg']) for x, y in zip(a, b, strict=True))
    assert [h['lr'] for h in new.hypers] == [.1, .1]

# -- a generator and its critic, with maps that are no tensor ---------------------------------------------------------

class Maps:
    "As `LabelMaps`: the maps of a batch, no tensor"
    def __init__(self, segmap): self.segmap = segmap
    def __len__(self): return len(self.segmap)

class Gen(nn.Module):
    def __init__(self): super().__init__(); self.table, self.n_maps = nn.Embedding(5, 3), 0
    def maps(self, segmap, edges=None):
        self.n_maps += 1
        return Maps(segmap)
    def forward(self, maps): return self.table(getattr(maps, 'segmap', maps)).movedim(-1, 1).tanh()

class Critic(nn.Module):
    def __init__(self): super().__init__(); self.net, self.seen = nn.Conv2d(8, 1, 1), []
    def forward(self, maps, image):
        self.seen.append((type(maps), len(maps), len(image)))
        segmap = maps.segmap.repeat(len(image)//len(maps), 1, 1) if isinstance(maps, Maps) else maps
        return [[self.net(torch.cat([nn.functional.one_hot(segmap, 5).movedim(-1, 1).float(), image], 1))]]

def map_loaders():
    g = torch.Generator().manual_seed(0)
    items = [(torch.randint(0, 5, (4, 4), generator=g), torch.rand(3, 4, 4, generator=g)*2 - 1) for _ in range(8)]
    dls = DataLoaders(DataLoader(items, bs=4), DataLoader(items, bs=4))
    dls.n_inp = 1
    return dls

def paired(maps, path='.', **kwargs):
    torch.manual_seed(0)
    gen = Gen()
    if not maps: gen.maps = None
    return SynthesisLearner(map_loaders(), gen, Critic(), path=path, **kwargs)

@pytest.mark.numeric
def test_maps_are_made_once_a_batch_and_not_doubled(monkeypatch):
    seen = []
    learn = quiet(paired(True, terms=dict(look=lambda turn: seen.append((type(turn.maps), type(turn.segmap))) or turn.fake.mean())))
    gen, critic = learn.model.generator, learn.model.critic
    assert gen.n_maps == 2 + 2 and set(critic.seen) == {(Maps, 4, 8)} and set(seen) == {(Maps, torch.Tensor)}
    monkeypatch.delattr(Gen, 'maps')
    torch.manual_seed(0)
    plain = quiet(SynthesisLearner(map_loaders(), Gen(), Critic(), terms=dict(look=lambda turn: turn.fake.mean())))
    assert set(plain.model.critic.seen) == {(torch.Tensor, 8, 8)}
    for k, p in parameters(plain).items(): torch.testing.assert_close(parameters(learn)[k], p)

def test_what_is_prepared():
    segmap, edges = torch.zeros(2, 4, 4, dtype=torch.long), torch.zeros(2, 4, 4, dtype=torch.bool)
    [maps] = SynthesisGAN(Gen(), Critic()).prepare(segmap, edges)
    assert type(maps) is Maps and maps.segmap is segmap
    assert SynthesisGAN(nn.Identity(), Critic()).prepare(segmap, edges) == (segmap, edges)

def test_refusals():
    for f in (SynthesisLearner.wgan, SynthesisLearner.from_learners):
        with pytest.raises(InputError, match='SynthesisLearner'): f()
    with pytest.raises(InputError, match='no turns to learn by'): quiet(TurnsLearner(loaders(PICTURE, PICTURE), TurnsModel()))
    with pytest.raises(InputError, match='opt_func= was given, but here each turn'): cycle(opt_func=itertools.count)
