"""What a fastai user tries with a learner: it works, or one sentence says why not."""
import copy, sys, types
import cloudpickle, matplotlib.pyplot as plt, numpy as np, pytest, torch
from fastai.callback.fp16 import ModelToHalf
from fastai.callback.mixup import CutMix, MixUp
from fastai.vision.all import (Adam, BnFreeze, Callback, CSVLogger, DataBlock, EarlyStoppingCallback, F, GradientClip, ImageBlock,
    Image, Interpretation, L, MaskBlock, Normalize, RandomSplitter, SaveModelCallback, Tensor, get_image_files, imagenet_stats, load_learner, nn, tensor)
from gaugan_fastai.callbacks import ModelAverage
from gaugan_fastai.core import InputError
from gaugan_fastai.critics import MultiScaleCritic
from gaugan_fastai.data.landscapes import draw_landscape
from gaugan_fastai.data.paired import PairedDataLoaders
from gaugan_fastai.learner import SynthesisLearner
from gaugan_fastai.models.spade import SPADEGenerator, spade_learner

@pytest.fixture(scope='module')
def dls(): return PairedDataLoaders.from_landscapes(n=8, n_valid=4, size=32, bs=4, seed=0)

@pytest.fixture(scope='module')
def segmap(dls): return dls.valid.one_batch()[0][0]

def make(dls, average=True, **kwargs):
    gen, critic = SPADEGenerator(dls.n_classes, ngf=1, nhidden=4), MultiScaleCritic(dls.n_classes, ndf=4, n_layers=3)
    return SynthesisLearner(dls, gen, critic, cbs=[ModelAverage(.9)]*average + L(kwargs.pop('cbs', None)), **kwargs)

def fit(learn, n=1, **kwargs):
    with learn.no_bar(), learn.no_logging(): learn.fit(n, **kwargs)
    return learn

def picture(learn, segmap): return np.asarray(learn.predict(segmap)).astype(int)

# -- copies ------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize('average', [True, False])
@pytest.mark.parametrize('copied', [copy.deepcopy, lambda learn: cloudpickle.loads(cloudpickle.dumps(learn))], ids=['deepcopy', 'pickle'])
def test_a_copy_is_a_learner_of_its_own(dls, segmap, average, copied):
    learn = fit(make(dls, average))
    other, wanted = copied(learn), picture(learn, segmap)
    assert abs(picture(other, segmap) - wanted).max() <= 1
    assert other.opt.param_lists[0][0] is next(iter(other.splitter(other.model)))[0]
    fit(other, 3, lr=.05)
    assert abs(picture(other, segmap) - wanted).max() > 1 and np.array_equal(picture(learn, segmap), wanted)

def test_a_copy_after_an_interrupt(dls):
    learn = make(dls)
    class Stop(Callback):
        def before_step(self): raise KeyboardInterrupt
    with pytest.raises(KeyboardInterrupt): fit(learn, cbs=Stop())
    fit(copy.deepcopy(learn))

def test_gradients_of_an_interrupted_fit_are_forgotten(dls):
    learn, seen = make(dls), []
    class Stop(Callback):
        def before_step(self): raise KeyboardInterrupt
    with pytest.raises(KeyboardInterrupt): fit(learn, cbs=Stop())
    class First(Callback):
        def before_fit(self): seen.clear()
        def before_backward(self): seen.append([p.grad for p in self.model.parameters() if p.grad is not None])
    fit(learn, cbs=First())
    assert not seen[0]

def test_styles_are_exported_with_the_averaged_encoder(dls, segmap, tmp_path):
    learn = fit(spade_learner(dls, 'cpu', ngf=1, nhidden=4, ndf=4, z_dim=4, perceptual=None, average=.9, path=tmp_path), 2, lr=.01)
    photo = dls.valid.one_batch()[1][0].as_subclass(torch.Tensor)
    learn.export()
    light = load_learner(tmp_path/'export.pkl')
    light.export('again.pkl')
    for o in (light, load_learner(tmp_path/'again.pkl')):
        assert o.model.encoder is o.gan_func.keywords['encoder']
        assert np.abs(np.asarray(o.predict(segmap, style=photo)).astype(int) - np.asarray(learn.predict(segmap, style=photo))).max() <= 1

# -- predictions with losses -------------------------------------------------------------------------------------

def test_a_loss_for_each_picture(dls):
    learn = fit(make(dls, terms=dict(l1=lambda turn: F.l1_loss(turn.fake, turn.photo))))
    with learn.no_bar(), learn.no_logging():
        preds, photos, losses = learn.get_preds(with_loss=True)
        assert losses.shape == (len(preds),) == (4,)
        alone = [learn.validate(dl=dls.test_dl([o], with_labels=True, bs=1))[0] for o in dls.valid_ds.items]
    torch.testing.assert_close(losses.as_subclass(Tensor), tensor(alone), rtol=1e-4, atol=1e-5)

def test_interpretation(dls):
    learn = fit(make(dls))
    with learn.no_bar(), learn.no_logging():
        interp = Interpretation.from_learner(learn)
        losses, which = interp.top_losses(2)
        assert losses[0] >= losses[1] and len(interp.losses) == 4 and interp.losses[which[0]] == interp.losses.max()
        interp.plot_top_losses(2)
        assert [o.get_title() for o in plt.gcf().axes][::3] == [f'loss {o:.3g}' for o in losses]
        interp.show_results([0, 1])
    plt.close('all')

# -- callbacks ---------------------------------------------------------------------------------------------------

class Writer:
    "A SummaryWriter that notes names"
    def __init__(self, log_dir=None): Writer.seen = set()
    def add_scalar(self, name, value, step): self.seen.add(name); float(value)
    def add_graph(self, model, *xb): torch.jit.trace(model, xb, strict=False); self.seen.add('graph')
    def close(self): pass

@pytest.fixture
def TensorBoardCallback(monkeypatch):
    "fastai's, without tensorboard"
    module = types.ModuleType('torch.utils.tensorboard')
    module.SummaryWriter = Writer
    for name, o in (('tensorboard', types.ModuleType('tensorboard')), ('torch.utils.tensorboard', module)): monkeypatch.setitem(sys.modules, name, o)
    monkeypatch.delitem(sys.modules, 'fastai.callback.tensorboard', raising=False)
    from fastai.callback.tensorboard import TensorBoardCallback
    return TensorBoardCallback

def test_tensorboard(dls, TensorBoardCallback):
    fit(make(dls, cbs=TensorBoardCallback(log_preds=False)))
    assert {'train_loss', 'valid_loss', 'gan', 'critic_fake', 'critic_real', 'lr_0', 'graph'} <= Writer.seen
    with pytest.raises(InputError, match='^TensorBoardCallback logs no pictures .*log_preds=False'): fit(make(dls, cbs=TensorBoardCallback()))

@pytest.mark.parametrize('cb, words', [(BnFreeze, 'batch norms whose weights'), (MixUp, 'no label map'), (CutMix, 'no label map'),
    (ModelToHalf, 'too coarse')])
def test_what_cannot_work_is_refused(dls, cb, words):
    with pytest.raises(InputError, match=f'^{cb.__name__} .*{words}') as e: fit(make(dls, cbs=cb()))
    assert '\n' not in str(e.value)

@pytest.mark.parametrize('kwargs, words', [(dict(opt_func=Adam), 'own Adam'), (dict(loss_func=nn.L1Loss()), 'terms='), (dict(moms=(.9, .8, .9)), 'fit_one_cycle')],
    ids=['opt_func', 'loss_func', 'moms'])
def test_arguments_that_are_said_otherwise_here(dls, kwargs, words):
    with pytest.raises(InputError, match=f'{next(iter(kwargs))}= was given.*{words}'): make(dls, **kwargs)

def test_batch_norms_with_weights_can_be_frozen(dls):
    "`BnFreeze` does what it says where the norms have weights, here those of a frozen group"
    class Gen(nn.Module):
        def __init__(self):
            super().__init__()
            self.table, self.norm = nn.Embedding(dls.n_classes, 3), nn.BatchNorm2d(3)
        def forward(self, segmap): return self.norm(self.table(segmap.as_subclass(Tensor)).movedim(-1, 1)).tanh()
    learn = SynthesisLearner(dls, Gen(), MultiScaleCritic(dls.n_classes, ndf=4, n_layers=3), cbs=BnFreeze())
    learn.model.generator.norm.requires_grad_(False)
    was = learn.model.generator.norm.running_mean.clone()
    fit(learn)
    assert torch.equal(was, learn.model.generator.norm.running_mean)

def test_gradients_are_clipped(dls):
    norms = []
    class Norm(Callback):
        order = GradientClip.order + 1
        def before_step(self): norms.append(nn.utils.get_total_norm([p.grad for p in self.model.parameters() if p.grad is not None]).item())
    fit(make(dls, cbs=[GradientClip(1e-3), Norm()]))
    assert max(norms) < 1.01e-3

def test_a_log_as_csv(dls, tmp_path):
    learn = make(dls, path=tmp_path, cbs=CSVLogger())
    with learn.no_bar(): learn.fit(2)
    lines = (tmp_path/'history.csv').read_text().splitlines()
    assert len(lines) == 3 and 'critic_real' in lines[0]

def test_stopping_early_and_keeping_the_best(dls, tmp_path, capsys):
    class Worse(Callback):   # the first epoch is the best
        order = 49
        def after_batch(self):
            if not self.training: self.learn.loss = self.learn.loss*0 + self.epoch
    learn = make(dls, path=tmp_path, cbs=[Worse(), SaveModelCallback(), EarlyStoppingCallback(patience=2)])
    best = {}
    class Note(Callback):
        def after_train(self):
            if self.epoch == 0: best.update({k: v.clone() for k, v in self.model.state_dict().items()})
    fit(learn, 9, cbs=Note())
    assert len(learn.history) == 3   # of all epochs, though the weights are of the first
    for k, v in learn.model.state_dict().items(): assert torch.equal(v, best[k]), k

# -- fits --------------------------------------------------------------------------------------------------------

def test_lr_find_leaves_no_trace(dls, tmp_path):
    (tmp_path/'data').write_text('a file where the data folder should be: nothing can be written below')
    learn = fit(make(dls, path=tmp_path/'data'))
    state = {k: v.clone() for k, v in learn.model.state_dict().items()}
    average, history = {k: v.clone() for k, v in learn.model_average.shadow.items()}, list(learn.history)
    with learn.no_bar(): found = learn.lr_find(num_it=20, show_plot=False)
    assert 1e-7 < found.valley < 10 and learn.history == history and learn.path == tmp_path/'data'
    for k, v in learn.model.state_dict().items(): assert torch.equal(v, state[k]), k
    for k, v in learn.model_average.shadow.items(): assert torch.equal(v, average[k]), k

def test_lr_find_after_an_interrupt_and_beyond_all_bounds(dls):
    learn = make(dls)
    state = {k: v.clone() for k, v in learn.model.state_dict().items()}
    class Stop(Callback):
        def after_batch(self):
            if self.train_iter == 3: raise KeyboardInterrupt
    learn.add_cb(Stop())
    with learn.no_bar(), pytest.raises(KeyboardInterrupt): learn.lr_find(num_it=20, start_lr=.1, show_plot=False)
    learn.remove_cb(Stop)
    with learn.no_bar(), pytest.raises(InputError, match='start lower'): learn.lr_find(num_it=20, start_lr=1e8, end_lr=1e20, show_plot=False)
    for k, v in learn.model.state_dict().items(): assert torch.equal(v, state[k]), k

def test_fine_tune_and_one_cycle(dls):
    learn, frozen_at = make(dls), []
    class Frozen(Callback):
        def before_train(self): frozen_at.append((self.opt.frozen_idx, [p[0].requires_grad for p in self.opt.param_lists]))
    with learn.no_bar(), learn.no_logging():
        learn.add_cb(Frozen())
        learn.fine_tune(1)
        assert frozen_at == [(2, [False, False, True, True]), (0, [True]*4)]
        assert {h['mom'] for h in learn.opt.hypers} == {0.}   # beta 1 stays the papers' in a cycle
        learn.fit_one_cycle(1, 1e-3, moms=(.9, .8, .9))
        assert learn.opt.hypers[0]['mom'] > .5

# -- a stock DataBlock -------------------------------------------------------------------------------------------

def stock(path, **kwargs):
    for o in ('images', 'labels'): (path/o).mkdir()
    for i in range(6):
        scene = draw_landscape(i, 32)
        for o, a in (('images', scene.photo), ('labels', scene.segmap)): Image.fromarray(a).save(path/o/f'{i}.png')
    block = DataBlock((MaskBlock(), ImageBlock()), get_items=lambda p: get_image_files(p/'labels'), get_y=lambda o: path/'images'/o.name,
        splitter=RandomSplitter(.34, seed=0), **kwargs)
    dls = block.dataloaders(path, bs=2)
    return SynthesisLearner(dls, SPADEGenerator(19, ngf=1, nhidden=4), MultiScaleCritic(19, ndf=4, n_layers=3), path=path, cbs=ModelAverage(.9))

def test_a_stock_datablock(tmp_path, segmap):
    learn = fit(stock(tmp_path, batch_tfms=Normalize.from_stats([.5]*3, [.5]*3)))   # -1..1: all that training needs
    learn.load(learn.save('a').stem)
    for f in (lambda: learn.predict(segmap), lambda: learn.show_results()):
        with pytest.raises(InputError, match='these data do not say what their ids mean: .*from_folder.*with_facts'): f()

@pytest.mark.parametrize('tfms', [[], [Normalize.from_stats(*imagenet_stats)]], ids=['0..1', 'imagenet'])
def test_photos_of_another_range_are_refused(tmp_path, tfms):
    with pytest.raises(InputError, match='the photos of these data range from .*PhotoBlock'): fit(stock(tmp_path, batch_tfms=tfms))
