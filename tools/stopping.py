"A training that is asked to stop ends at its next step, as if its time were over: for tools under a time limit."
import signal
from fastai.vision.all import CancelFitException
from gaugan_fastai.keeping import Interrupts
from gaugan_fastai.terminal import prepare_process

class CleanStop(Interrupts):
    """End the fit after the step in which SIGTERM, SIGHUP or Ctrl-C came; what is done at the end of a fit is done.

    `with CleanStop() as stop:` holds signals back, and `stop` is a callback of the learner, which looks for them. A
    `TimeBudget` that looks at its training takes the last look here too. Processes that load are born with signals
    held back, so that they go on where one is sent to all, as `timeout` does. Once a signal was seen, another one
    that comes later means: at once."""
    def __enter__(self):
        prepare_process()   # SIGTERM and SIGHUP mean Ctrl-C
        super().__enter__()
        signal.pthread_sigmask(signal.SIG_BLOCK, self.before)
        return self

    def __exit__(self, *args):
        self.let_through()
        super().__exit__(*args)

    def let_through(self): signal.pthread_sigmask(signal.SIG_UNBLOCK, self.before)

    @property
    def heard(self):
        "Has a signal come? It is noted now, if it was held back"
        if self.since is None and signal.sigpending() & self.before.keys(): self.let_through()
        return self.since is not None

    def after_batch(self):
        if self.heard: raise CancelFitException()

    def after_fit(self):
        super().after_fit()
        budget = getattr(self.learn, 'time_budget', None)
        if self.heard and budget and budget.look and not budget.over: budget.take_look(budget.total())
