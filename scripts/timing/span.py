"""A measured span: wall time from here to there with the device's work done at both ends."""

import gc
import time
from typing import ClassVar

import pytorch_lightning as pl
import torch

DEVICE = torch.device("cuda", 0) if torch.cuda.is_available() else torch.device("cpu")


def now() -> float:
    """Seconds of the wall clock, once the device has done what it was given."""
    if DEVICE.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()


def settle() -> None:
    """Take what earlier spans left out of the next one."""
    gc.collect()


class EpochEnds(pl.Callback):
    """Notes when each epoch ends: from the first to the last are whole epochs, their ends included, start-up not.

    It is built by name from a config, so that the instants are kept by the class: those of the run made last.
    """

    instants: ClassVar[list[float]] = []

    def __init__(self) -> None:
        self.instants.clear()
        settle()

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """An epoch's iterations are done."""
        self.instants.append(now())

    @classmethod
    def seconds(cls) -> float:
        """From the first epoch's end to the last's."""
        return cls.instants[-1] - cls.instants[0]
