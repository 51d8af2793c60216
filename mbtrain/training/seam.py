"""The seam: the one place between two iterations where checkpoints are taken and signals heeded."""

from pathlib import Path
from typing import Any

import pytorch_lightning as pl

from mbtrain.plan.duration import Cadence
from mbtrain.training.checkpoint import BEHIND, CheckpointFiles
from mbtrain.training.clock import Clock
from mbtrain.training.requeue import asks_for_requeue
from mbtrain.training.signals import Interrupted, Signals


class Seam:
    """Called after an iteration's hooks (an epoch's, where it ends one): saves where due, and heeds signals there."""

    def __init__(
        self, folder: Path, clock: Clock, *, every: Cadence | None, files: CheckpointFiles, signals: Signals
    ) -> None:
        self._folder, self._clock, self._every, self._files, self._signals = folder, clock, every, files, signals
        self.trainer: pl.Trainer | None = None
        self._saved_at = -1
        self._passed_at = 0

    def __call__(self) -> None:
        """Save if it is time, at the run's end and before an interruption, which is raised as Interrupted."""
        self._passed_at = self._clock.done
        received = self._signals.received
        if received is None and not self._is_due():
            return
        self.save()
        if received is not None and not self._clock.is_over:
            self._files.finish()
            assert self.trainer is not None
            raise Interrupted(received, asks_for_requeue=asks_for_requeue(self.trainer, received))

    def save(self) -> None:
        """Take a snapshot of the state after the last iteration, unless it was taken already."""
        if self._saved_at != self._clock.done:
            assert self.trainer is not None
            path = self._folder / f"iteration-{self._clock.done:012d}.ckpt"
            self.trainer.save_checkpoint(path, storage_options=BEHIND)
            self._saved_at = self._clock.done

    def save_after_error(self) -> None:
        """After an exception: save where the state is still that of the last seam."""
        if not self._clock.is_touched and 0 < self._clock.done == self._passed_at:
            self.save()

    def _is_due(self) -> bool:
        assert self.trainer is not None
        if self._clock.is_over or self.trainer.should_stop:
            return True
        if self._every is None:
            return False
        last = self._clock.last
        return self._every.is_due(last.index, last.samples_before, last.samples_after)


class StockSeam(pl.Callback):
    """The seam under Lightning's own loop: the start of the next iteration, or the end of training."""

    def __init__(self, seam: Seam, clock: Clock) -> None:
        self._seam, self._clock = seam, clock
        self._passed_at = clock.done

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """What a checkpoint brought has had its seam."""
        self._passed_at = self._clock.done

    def on_train_batch_start(self, trainer: pl.Trainer, pl_module: Any, batch: Any, batch_idx: int) -> None:
        """The seam of the iteration before."""
        self._pass()

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """The seam of the last iteration."""
        self._pass()

    def _pass(self) -> None:
        if self._clock.done > self._passed_at:
            self._passed_at = self._clock.done
            self._seam()
