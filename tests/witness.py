"""Who moves when: a callback that watches every step of a learner's optimiser."""
import torch
from fastai.vision.all import Callback

class OneMoves(Callback):
    """Assert at every step that some of those move whose turn it is, and nobody else, and that who waits has no gradient.

    With `gathers` (accumulated gradients) who waits may have one."""
    def __init__(self, gathers=False): self.gathers = gathers
    def before_fit(self): self.steps, self.names = 0, []
    def before_step(self):
        movers = {id(p) for p in self.learn.turn.movers}
        self.was = {k: p.detach().clone() for k, p in self.model.named_parameters()}
        self.mine = {k for k, p in self.model.named_parameters() if id(p) in movers}
        waiting = [p.grad for k, p in self.model.named_parameters() if k not in self.mine]
        assert self.gathers or all(g is None for g in waiting)
    def after_step(self):
        moved = {k for k, p in self.model.named_parameters() if not torch.equal(p, self.was[k])}
        assert moved and moved <= self.mine, (self.learn.turn.name, moved - self.mine)
        assert self.opt.turn == self.learn.turn.name
        self.steps += 1
        self.names.append(self.opt.turn)
