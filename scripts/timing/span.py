"""A measured span: time from here to there with the device's work done at both ends."""

import gc
import time
from typing import ClassVar, NamedTuple

import pytorch_lightning as pl
import torch

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
    """Notes when each epoch ends: from the first to the last are whole epochs, their ends included, start-up not.

    It is built by name from a config, so that the instants are kept by the class: those of the run made last.
    """

    instants: ClassVar[list[Seconds]] = []

    def __init__(self) -> None:
        self.instants.clear()
        settle()

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """An epoch's iterations are done."""
        self.instants.append(now())

    @classmethod
    def seconds(cls, *, iterations: int) -> Seconds:
        """From the first epoch's end to the last's, per iteration."""
        return cls.instants[-1].since(cls.instants[0], iterations=iterations)
