"""The lean epoch loop inside Lightning's Trainer: what an iteration needs, and nothing per iteration besides.

    on_train_start
    for each epoch:  on_train_epoch_start
        for each mini-batch:  on_train_batch_start - training_step - on_train_batch_end - validation, where due
            seam, unless it ends the epoch
        on_train_epoch_end - seam
    on_train_end

The seam is the one place where a checkpoint is written: the state there is a count of iterations, from which every
counter of Lightning's is derived when a run goes on. An epoch that the run's length cuts short has its seam before its
end, so that a longer run can go on inside it.

This rests on private names of pytorch_lightning 2.6; `trainer.loop=stock` is Lightning's own loop, and
tests/training/test_loop_contract.py compares the two.
"""

from collections.abc import Callable
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.loops.fetchers import _DataFetcher
from pytorch_lightning.loops.fit_loop import _FitLoop
from pytorch_lightning.loops.progress import _ProcessedTracker
from pytorch_lightning.loops.training_epoch_loop import _TrainingEpochLoop
from pytorch_lightning.trainer import call

from mbtrain.data.loader import Loader
from mbtrain.training.module import MiniBatchModule


class StockEpochLoop(_TrainingEpochLoop):
    """Lightning's epoch loop; when to validate is asked of the plan, where Lightning knows batches and epochs only."""

    def _should_check_val_fx(self, data_fetcher: _DataFetcher) -> bool:
        module = self.trainer.lightning_module
        return self.trainer.enable_validation and isinstance(module, MiniBatchModule) and module.is_validation_due()


class LeanEpochLoop(StockEpochLoop):
    """One epoch, or what is left of it."""

    def run_epoch(self, module: MiniBatchModule, loader: Loader, seam: Callable[[], None]) -> None:
        """Iterate to the end of the epoch, of the run, or to a stop."""
        trainer = self.trainer
        starts, ends = (_overriding(trainer, name) for name in ("on_train_batch_start", "on_train_batch_end"))
        step, clock = _step(trainer, module), module.parts.clock
        progress = self.batch_progress
        if clock.is_between_epochs:
            self.batch_progress.reset_on_run()
            self.val_loop.batch_progress.total.reset()
        for index, mini_batch in enumerate(loader, start=clock.done_in_epoch):
            is_last = mini_batch.iteration.is_last_of_epoch
            if starts:
                _count(progress, index + 1, clock.done + 1, stage="ready")
            progress.is_last_batch = is_last
            for hook in starts:
                hook(trainer, module, mini_batch, index)
            step(mini_batch, index)
            if ends:
                _count(progress, index + 1, clock.done, stage="processed")
            for hook in ends:
                hook(trainer, module, {}, mini_batch, index)
            _count(progress, index + 1, clock.done, stage="completed")
            if module.is_validation_due() and trainer.enable_validation:
                self._validate(module)
            self._batches_that_stepped += 1
            if not is_last:
                seam()
            if trainer.should_stop:
                break

    def _validate(self, module: MiniBatchModule) -> None:
        self.trainer.validating = True
        call._call_lightning_module_hook(self.trainer, "on_validation_model_zero_grad")
        self.val_loop.run()
        self.trainer.training = True


class LeanFitLoop(_FitLoop):
    """All epochs; counters are set from our clock, so that they cannot disagree with it."""

    def __init__(self, trainer: pl.Trainer, *, loader: Loader, seam: Callable[[], None], max_epochs: int) -> None:
        super().__init__(trainer, max_epochs=max_epochs)
        self.epoch_loop = LeanEpochLoop(trainer)
        self._loader, self._seam = loader, seam

    def run(self) -> None:
        """Train from where the clock stands."""
        module = self.trainer.lightning_module
        assert isinstance(module, MiniBatchModule)
        self.setup_data()
        self._restore_progress(module)
        self.on_run_start()
        clock = module.parts.clock
        while not clock.is_over and not self.trainer.should_stop:
            self._open_epoch(is_resumed=not clock.is_between_epochs)
            self.epoch_loop.run_epoch(module, self._loader, self._seam)
            self.on_advance_end()
            if clock.is_between_epochs:
                self._seam()
        self.on_run_end()

    def _restore_progress(self, module: MiniBatchModule) -> None:
        clock = module.parts.clock
        within = clock.done_in_epoch
        epochs = clock.last.epoch + (within == 0) if clock.done else 0
        for tracker in (self.epoch_progress.total, self.epoch_progress.current):
            assert isinstance(tracker, _ProcessedTracker)
            tracker.ready = tracker.started = epochs + bool(within)
            tracker.processed = tracker.completed = epochs
        _count(self.epoch_loop.batch_progress, within, clock.done, stage="completed")
        self.epoch_loop._batches_that_stepped = clock.done
        progress = self.epoch_loop.manual_optimization.optim_step_progress
        progress.total.ready = progress.total.completed = clock.done
        for loop in (self, self.epoch_loop, self.epoch_loop.val_loop, self.epoch_loop.manual_optimization):
            loop._restarting = loop._loaded_from_state_dict = loop._resuming_from_checkpoint = False

    def _open_epoch(self, *, is_resumed: bool) -> None:
        if is_resumed:
            return
        self.epoch_progress.increment_ready()
        call._call_callback_hooks(self.trainer, "on_train_epoch_start")
        call._call_lightning_module_hook(self.trainer, "on_train_epoch_start")
        self.epoch_progress.increment_started()


def _overriding(trainer: pl.Trainer, name: str) -> list[Callable[..., Any]]:
    """The callbacks' and the module's own hooks of this name: those that do something."""
    callbacks = trainer.callbacks  # pyright: ignore[reportAttributeAccessIssue]
    hooks = [getattr(one, name) for one in callbacks if getattr(type(one), name) is not getattr(pl.Callback, name)]
    module = trainer.lightning_module
    if getattr(type(module), name) is not getattr(pl.LightningModule, name):
        hooks.append(lambda trainer, module, *args: getattr(module, name)(*args))
    return hooks


def _step(trainer: pl.Trainer, module: MiniBatchModule) -> Callable[..., Any]:
    """The strategy's training_step, which holds autocast or float64; straight to ours where there is none to hold."""
    is_plain = trainer.precision == "32-true" and trainer.world_size == 1
    return module.training_step if is_plain else trainer.strategy.training_step


def _count(progress: Any, current: int, total: int, *, stage: str) -> None:
    """Set Lightning's counters of batches up to and including `stage`."""
    for tracker, value in ((progress.current, current), (progress.total, total)):
        tracker.ready = tracker.started = value
        if stage != "ready":
            tracker.processed = value
        if stage == "completed":
            tracker.completed = value
