"""Lightning's Trainer, set up so that the plan rules: its loop, its files, its silence."""

import logging
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from lightning_fabric.utilities.exceptions import MisconfigurationException

from mbtrain.data.loader import Batches, Loader
from mbtrain.plan.refused import Refused
from mbtrain.training.checkpoint import CheckpointFiles
from mbtrain.training.clock import Clock
from mbtrain.training.loop import LeanFitLoop, StockEpochLoop
from mbtrain.training.module import MiniBatchModule
from mbtrain.training.seam import Seam, StockSeam
from mbtrain.training.signals import HeedSignals, Signals


def make_trainer(
    options: Mapping[str, Any],
    device: torch.device,
    clock: Clock,
    loader: Loader,
    seam: Seam,
    files: CheckpointFiles,
    signals: Signals,
    callbacks: Sequence[pl.Callback],
    *,
    run_dir: Path,
) -> pl.Trainer:
    """A Trainer on one device under `trainer.*`; `trainer.extra` goes to Lightning as it is, callbacks apart."""
    # Lightning tells of devices and loggers at each start; what a user needs of it, we say.
    logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)
    ours: list[pl.Callback] = [HeedSignals(signals)]
    if options["loop"] == "stock":
        ours.append(StockSeam(seam, clock))
    extra = {name: value for name, value in options["extra"].items() if name != "callbacks"}
    plugins = [files, *extra.pop("plugins", [])]
    # Of every run on a machine that has SLURM, but was not started by it.
    warnings.filterwarnings("ignore", message="The `srun` command is available")
    try:
        trainer = pl.Trainer(
            accelerator="gpu" if device.type == "cuda" else "cpu",
            devices=1,
            precision=options["precision"],
            max_epochs=clock.plan.num_epochs,
            logger=False,
            # Lightning looks there for checkpoints that a scheduler's signal made it leave.
            default_root_dir=run_dir,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=extra.pop("enable_model_summary", False),
            num_sanity_val_steps=0,
            deterministic=options["deterministic"] or None,
            plugins=plugins,
            callbacks=[*callbacks, *ours],
            **extra,
        )
    except (TypeError, ValueError, MisconfigurationException) as error:
        raise Refused(f"trainer.extra={list(extra)}: Lightning refuses it: {str(error).splitlines()[0]}") from error
    seam.trainer = trainer
    if options["loop"] == "stock":
        trainer.fit_loop.epoch_loop = StockEpochLoop(trainer)
    else:
        trainer.fit_loop = LeanFitLoop(trainer, loader=loader, seam=seam, max_epochs=clock.plan.num_epochs)
    return trainer


def fit(
    trainer: pl.Trainer, module: MiniBatchModule, loader: Loader, batches: Batches | None, start: Path | None
) -> None:
    """Train to the end of the plan, from the checkpoint `start` if there is one."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module="pytorch_lightning")
        warnings.filterwarnings("ignore", message=".*does not have many workers.*")
        trainer.fit(module, loader, batches, ckpt_path=start, weights_only=True)
