"""A measured span: time from here to there with the device's work done at both ends."""

import gc
import time
from collections.abc import Callable
from typing import ClassVar, NamedTuple

import pytorch_lightning as pl
import torch

from mbtrain.plan.order import Indices, Reshuffle

DEVICE = torch.device("cuda", 0) if torch.cuda.is_available() else torch.device("cpu")

# Told at the end of each epoch how many iterations are done.
Note = Callable[[int], None]
# Trains without end; whoever started it takes the time between its notes, and ends its process.
Peer = Callable[[Note], None]


class Seconds(NamedTuple):
    """An instant or a length, of the wall clock and of this process' CPU time (all of its threads).

    On a core of its own the two say the same; CPU time leaves out what other processes take of the core.
    """

    wall: float
    cpu: float


def now() -> Seconds:
    """This instant, once the device has done what it was given."""
    if DEVICE.type == "cuda":
        torch.cuda.synchronize()
    return Seconds(time.perf_counter(), time.process_time())


def settle() -> None:
    """Take what earlier work left out of the spans to come."""
    gc.collect()


class EpochEnds(pl.Callback):
    """Notes when each epoch of a fit ends."""

    def __init__(self, note: Note) -> None:
        self._note = note

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """An epoch's iterations are done."""
        self._note(trainer.global_step)


class TimedReshuffle(Reshuffle):
    """mbtrain's default order, which notes when an epoch's is asked for: a run with it is as any other.

    It is built by name from a config, so that whom to tell is kept by the class.
    """

    note: ClassVar[Note]
    iterations_per_epoch: ClassVar[int]

    def __call__(self, epoch: int) -> Indices:
        """The order of `epoch`, which begins now."""
        type(self).note(epoch * self.iterations_per_epoch)
        return super().__call__(epoch)
