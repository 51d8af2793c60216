"""Lightning as its users write it: automatic optimisation, DataLoader, self.log of loss and accuracy, CSVLogger."""

import contextlib
import os
import warnings
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import TQDMProgressBar
from pytorch_lightning.loggers import CSVLogger
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

from timing.cases import LR, MOMENTUM, Case
from timing.span import DEVICE, EpochEnds, Seconds


class LoggingModule(pl.LightningModule):
    """Logs the loss and the accuracy of every step."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        """The loss, which Lightning differentiates and steps on."""
        x, y = batch
        output = self.model(x)
        loss = F.cross_entropy(output, y)
        self.log("train/loss", loss, prog_bar=True)
        self.log("train/accuracy", (output.argmax(1) == y).float().mean(), prog_bar=True)
        return loss

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """The same optimizer as the hand loop's."""
        return torch.optim.SGD(self.parameters(), LR, MOMENTUM, fused=True)


class LightningLoop:
    """A peer: one fit at a time, its first epoch not counted."""

    def __init__(self, case: Case, folder: Path, *, has_bar: bool) -> None:
        self._case, self._folder, self._has_bar = case, folder, has_bar
        self._dataset = TensorDataset(*case.make_data())

    def __call__(self) -> Seconds:
        """Seconds per iteration over whole epochs."""
        case = self._case
        with warnings.catch_warnings(), open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere):
            warnings.simplefilter("ignore")
            ends = EpochEnds()
            loader = DataLoader(self._dataset, batch_size=case.batch_size, shuffle=True)
            self._trainer(ends).fit(LoggingModule(case.make_model()), loader)
        return ends.instants[-1].since(ends.instants[0], iterations=case.iterations)

    def _trainer(self, ends: EpochEnds) -> pl.Trainer:
        callbacks: list[Any] = [ends, *([TQDMProgressBar()] if self._has_bar else [])]
        return pl.Trainer(
            accelerator="gpu" if DEVICE.type == "cuda" else "cpu",
            devices=1,
            max_epochs=self._case.epochs + 1,
            logger=CSVLogger(self._folder),
            log_every_n_steps=1,
            enable_checkpointing=False,
            enable_model_summary=False,
            enable_progress_bar=self._has_bar,
            callbacks=callbacks,
        )
