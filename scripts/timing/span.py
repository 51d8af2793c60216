"""A measured span: time from here to there with the device's work done at both ends."""

import gc
import time
from typing import ClassVar, NamedTuple

import pytorch_lightning as pl
import torch

from mbtrain.plan.order import Indices, Reshuffle

DEVICE = torch.device("cuda", 0) if torch.cuda.is_available() else torch.device("cpu")


class Seconds(NamedTuple):
    """An instant or a length, of the wall clock and of this process' CPU time (all of its threads).

    On a core of its own the two say the same; CPU time leaves out what other processes take of the core.
    """

    wall: float
    cpu: float

    def since(self, start: "Seconds", *, iterations: int) -> "Seconds":
        """The length from `start` to here, per iteration."""
        return Seconds((self.wall - start.wall) / iterations, (self.cpu - start.cpu) / iterations)


def now() -> Seconds:
    """This instant, once the device has done what it was given."""
    if DEVICE.type == "cuda":
        torch.cuda.synchronize()
    return Seconds(time.perf_counter(), time.process_time())


def settle() -> None:
    """Take what earlier spans left out of the next one."""
    gc.collect()


class EpochEnds(pl.Callback):
    """Notes when each epoch ends: from the first to the last are whole epochs, their ends included, start-up not."""

    def __init__(self) -> None:
        self.instants: list[Seconds] = []
        settle()

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """An epoch's iterations are done."""
        self.instants.append(now())


class TimedReshuffle(Reshuffle):
    """mbtrain's default order, which notes when an epoch's is asked for: a run with it is as any other.

    It is built by name from a config, so that the instants are kept by the class: those of the run made last.
    """

    instants: ClassVar[list[Seconds]] = []

    def __init__(self, *, num_samples: int, seed: int) -> None:
        super().__init__(num_samples=num_samples, seed=seed)
        self.instants.clear()
        settle()

    def __call__(self, epoch: int) -> Indices:
        """The order of `epoch`, which begins now."""
        self.instants.append(now())
        return super().__call__(epoch)
