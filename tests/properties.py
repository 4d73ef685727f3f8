"""What must be true of the library, each as a function that raises where it is not.

Tests call them on the code as it is, and with a fault planted."""
import torch
from torch import nn

from gaugan_fastai.models.sean import mean_codes
from gaugan_fastai.turns import GANAdam

LR, WD, MULTS = .1, .5, (.5, 2.)

def weight_decay_shrinks_weights():
    "Without a gradient a step takes `lr*wd` off each weight of two or more dimensions, and nothing off biases"
    params = [[nn.Parameter(torch.full(shape, 3.)) for shape in ((2, 3), (2,))] for _ in range(2)]
    opt = GANAdam(params, lr=LR, wd=WD, lr_mults=MULTS)
    for turn, (weight, bias), mult in zip(('generator', 'critic'), params, MULTS):
        opt.turn = turn
        for p in (weight, bias): p.grad = torch.zeros_like(p)
        opt.step()
        torch.testing.assert_close(weight.detach(), torch.full((2, 3), 3*(1 - LR*mult*WD)))
        assert torch.equal(bias.detach(), torch.full((2,), 3.)), 'a bias has shrunk'

def weight_decay_of_a_learner(learn):
    "The same for the networks of a learner: weights that no loss pulls at shrink, biases stay"
    nets = {n: getattr(learn.model, n) for n in ('generator', 'critic')}
    learn.create_opt()
    for n, net in nets.items():
        before = [p.detach().clone() for p in net.parameters()]
        learn.opt.set_hyper('wd', WD)
        learn.opt.turn = n
        for p in net.parameters(): p.grad = torch.zeros_like(p)
        learn.opt.step()
        for p, was in zip(net.parameters(), before):
            if p.ndim > 1: assert p.detach().norm() < was.norm(), f'a weight of the {n} did not shrink'
            else: assert torch.equal(p.detach(), was), f'a bias of the {n} moved'

def freezing_forgets_the_past(learn):
    "After `freeze_to` Adam begins anew: its first step moves each weight by the learning rate, whatever came before"
    learn.create_opt()
    gen, opt = learn.model.generator, learn.opt
    def step(size):
        opt.turn = 'generator'
        for p in gen.parameters(): p.grad = torch.full_like(p, size)
        opt.step()
    for _ in range(3): step(1.)
    learn.freeze_to(0)
    before = [p.detach().clone() for p in gen.parameters()]
    step(1e-3)
    lr = opt.hypers[0]['lr']*opt.lr_mults[0]
    for p, was in zip(gen.parameters(), before):
        torch.testing.assert_close(was - p.detach(), torch.full_like(was, lr), rtol=.02, atol=1e-7)

def usual_styles_follow_the_encoder(learn):
    "After a training the usual codes are those of the encoder as it is now, not as it was"
    before = learn.usual_codes().clone()
    with learn.no_bar(), learn.no_logging(): learn.fit(1, lr=1e-2)
    after = learn.usual_codes()
    with learn.painting() as gen: fresh = mean_codes(gen, learn.dls.train)
    assert (fresh - before).abs().max() > 1e-3, 'the encoder did not learn: nothing was tested'
    torch.testing.assert_close(after, fresh, rtol=1e-3, atol=1e-4)
