"""Lightning as its users write it: automatic optimisation, DataLoader, loss and accuracy of every step logged."""

import contextlib
import logging
import os
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import TQDMProgressBar
from pytorch_lightning.loggers import CSVLogger, Logger, WandbLogger
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset
from torchmetrics import MeanMetric
from torchmetrics.classification import MulticlassAccuracy

from timing.cases import NUM_CLASSES, Case
from timing.span import DEVICE, EpochEnds, Note, settle


class LoggingModule(pl.LightningModule):
    """Logs the loss and the accuracy of every step."""

    def __init__(self, case: Case) -> None:
        super().__init__()
        self.case, self.model = case, case.make_model()

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
        return self.case.make_optimizer(self.model)


class TemplateModule(LoggingModule):
    """In the manner of lightning-hydra-template: metric objects updated at every step and logged by reference."""

    def __init__(self, case: Case) -> None:
        super().__init__(case)
        self.loss = nn.CrossEntropyLoss()
        self.mean_loss, self.accuracy = MeanMetric(), MulticlassAccuracy(NUM_CLASSES, average="micro")

    def forward(self, x: Tensor) -> Tensor:
        """Logits [batch, classes]."""
        return self.model(x)

    def model_step(self, batch: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        """Loss, predicted classes, classes."""
        x, y = batch
        logits = self(x)
        return self.loss(logits, y), logits.argmax(1), y

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        """The loss, after the metrics have seen it."""
        loss, predictions, targets = self.model_step(batch)
        self.mean_loss(loss)
        self.accuracy(predictions, targets)
        for name, metric in (("train/loss", self.mean_loss), ("train/acc", self.accuracy)):
            self.log(name, metric, on_step=True, on_epoch=True, prog_bar=True)
        return loss


class LightningLoop:
    """A peer: a fit without end."""

    def __init__(
        self, case: Case, folder: Path, make: Callable[[Case], pl.LightningModule], *, keeps: str, has_bar: bool = False
    ) -> None:
        self._case, self._folder, self._make, self._keeps, self._has_bar = case, folder, make, keeps, has_bar

    def __call__(self, note: Note) -> None:
        """Train without end."""
        logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
        os.environ["WANDB_SILENT"] = "true"
        case = self._case
        with warnings.catch_warnings(), open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere):
            warnings.simplefilter("ignore")
            loader = DataLoader(TensorDataset(*case.make_data()), batch_size=case.micro_size, shuffle=True)
            settle()
            self._trainer(EpochEnds(note)).fit(self._make(case), loader)

    def _trainer(self, ends: EpochEnds) -> pl.Trainer:
        callbacks: list[Any] = [ends, *([TQDMProgressBar()] if self._has_bar else [])]
        return pl.Trainer(
            accelerator="gpu" if DEVICE.type == "cuda" else "cpu",
            devices=1,
            max_epochs=-1,
            accumulate_grad_batches=self._case.num_micro_batches,
            logger=self._logger(),
            log_every_n_steps=1,
            enable_checkpointing=False,
            enable_model_summary=False,
            enable_progress_bar=self._has_bar,
            callbacks=callbacks,
        )

    def _logger(self) -> Logger:
        if self._keeps == "csv":
            return CSVLogger(self._folder)
        return WandbLogger(save_dir=self._folder, offline=True, project="benchmark")
