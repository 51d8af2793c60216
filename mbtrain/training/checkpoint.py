"""Checkpoints: written at the seam, beside the target, flushed, renamed; read without running code."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from lightning_fabric.plugins.io.checkpoint_io import CheckpointIO
from torch import nn

from mbtrain.plan.duration import Cadence
from mbtrain.training.clock import Clock
from mbtrain.training.signals import Interrupted, Signals

PATTERN = "iteration-*.ckpt"
BEST = "best.ckpt"


class DurableFiles(CheckpointIO):
    """Lightning's way to files: a file that bears its final name is whole and on disk."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        """Write beside the target, flush, rename."""
        write_durably(checkpoint, Path(path))

    def load_checkpoint(self, path: Any, map_location: Any = None, weights_only: bool | None = True) -> dict[str, Any]:
        """Read tensors and plain values only."""
        return torch.load(path, map_location="cpu", weights_only=True)

    def remove_checkpoint(self, path: Any) -> None:
        """Delete the file."""
        Path(path).unlink(missing_ok=True)


def write_durably(content: Any, path: Path) -> None:
    """torch.save that leaves either the old file or the whole new one, after any kill."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.tmp")
    try:
        with open(beside, "wb") as file:
            torch.save(content, file)
            file.flush()
            os.fsync(file.fileno())
        beside.rename(path)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def save_weights(model: nn.Module, path: Path) -> None:
    """Keep a model's weights alone."""
    write_durably({"weights": {name: value.detach().cpu() for name, value in model.state_dict().items()}}, path)


def newest(folder: Path) -> list[Path]:
    """The checkpoints of a run, newest first."""
    return sorted(folder.glob(PATTERN), reverse=True)


def loadable(folder: Path, *, tell: Callable[[str], None]) -> Path | None:
    """The newest checkpoint that can be read; each one that cannot is told of."""
    for path in newest(folder):
        try:
            torch.load(path, map_location="cpu", weights_only=True, mmap=True)["mbtrain"]
        except Exception as error:
            tell(f"checkpoint {path.name} cannot be read ({type(error).__name__}): going on from the one before")
        else:
            return path
    return None


class Seam:
    """Called after an iteration's hooks (an epoch's, where it ends one): saves where due, and heeds signals there."""

    def __init__(self, folder: Path, clock: Clock, *, every: Cadence | None, keep: int, signals: Signals) -> None:
        self._folder, self._clock, self._every, self._keep, self._signals = folder, clock, every, keep, signals
        self.trainer: pl.Trainer | None = None
        self._saved_at = -1

    def __call__(self) -> None:
        """Save if it is time, at the run's end and before an interruption, which is raised as Interrupted."""
        received = self._signals.received
        if received is None and not self._is_due():
            return
        if self._saved_at != self._clock.done:
            self._save()
        if received is not None and not self._clock.is_over:
            raise Interrupted(received)

    def _is_due(self) -> bool:
        assert self.trainer is not None
        if self._clock.is_over or self.trainer.should_stop:
            return True
        last = self._clock.last
        return self._every is not None and self._every.is_due(last.index, last.samples_before, last.samples_after)

    def _save(self) -> None:
        assert self.trainer is not None
        self.trainer.save_checkpoint(self._folder / f"iteration-{self._clock.done:012d}.ckpt")
        self._saved_at = self._clock.done
        for old in newest(self._folder)[self._keep :]:
            old.unlink(missing_ok=True)


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
