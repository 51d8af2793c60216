"""Promises 5 and 6: observing changes no bit, and an iteration neither waits for the device nor touches files."""

import builtins
import socket
import threading
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import pytest
import pytorch_lightning as pl
import torch

from mbtrain import assembly as assembly_module
from mbtrain.training import recorder
from mbtrain.training.captured import waiting_for_nothing
from mbtrain.training.module import MiniBatchModule
from tests.conftest import rows

QUICK_SHARPNESS = ["probe.sharpness.num_samples=8", "probe.sharpness.num_products=2", "probe.sharpness.epsilons=[1e-3]"]
QUICK_SHARPNESS += ["probe.sharpness.num_directions=2"]
DROPOUT = ["duration=2ep", "model.dropout=0.2", "dataset.augment=[flip]"]


class Watcher(pl.Callback):
    """A user's callback that looks and draws random numbers where it should not matter."""

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *_: Any) -> None:
        torch.rand(3)

    def on_before_optimizer_step(self, *_: Any) -> None:
        torch.rand(3)


@pytest.mark.parametrize(
    "observer",
    [
        "probe=gradient_norm",
        "probe=throughput",
        "probe=full",
        "tracker=csv",
        "trainer.progress=true",
        "validate.every=3it",
        "checkpoint.every=2it",
        "validate.batch_size=7",
    ],
)
def test_observing_changes_no_bit(train: Callable[..., Any], train_once: Callable[..., Any], observer: str) -> None:
    assert train(*DROPOUT, observer)["weights_sha256"] == train_once(*DROPOUT)["weights_sha256"]


@pytest.mark.parametrize(
    "options", [["probe=batch_norm"], ["probe=sharpness", *QUICK_SHARPNESS]], ids=lambda one: one[0]
)
def test_a_probe_with_passes_of_its_own_changes_no_bit(
    train: Callable[..., Any], train_once: Callable[..., Any], options: list[str]
) -> None:
    net = ["model=cnn", "model.channels=[2,4]", "model.dropout=0.2", "dataset.augment=[flip]", "duration=9it"]
    net += ["batch_norm.group_size=16", "batch.micro_size=16", "ema=1ep"]
    due = f"probe.{options[0].removeprefix('probe=')}.every=2it"
    assert train(*net, *options, due)["weights_sha256"] == train_once(*net)["weights_sha256"]


def test_callbacks_that_draw_random_numbers_change_no_bit(
    train: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = train(*DROPOUT)
    monkeypatch.setattr(assembly_module, "callbacks_of", lambda config: (Watcher(),))
    assert train(*DROPOUT)["weights_sha256"] == plain["weights_sha256"]


def test_probe_logs_the_norm_of_the_gradient_where_it_is_due(train: Callable[..., Any]) -> None:
    clip = "optimizer.clip_norm=0.01"
    table = rows(train("duration=10it", "probe=gradient_norm", "probe.gradient_norm.every=4it", clip).run_dir)
    assert [row["iteration"] for row in table if "gradient/norm" in row] == [4, 8]
    for row in table:
        assert row["train/grad_norm"] > 0.01
        assert row.get("gradient/norm", 0.01) == pytest.approx(0.01, rel=1e-3)


# Peak memory on the host is read from the process, speed from the clock: neither is the device's.
MEASURED = ["model=cnn", "model.channels=[2]", "probe=[throughput,batch_norm,sharpness]", *QUICK_SHARPNESS]
MEASURED += ["probe.throughput.every=10it", "probe.batch_norm.every=30it", "probe.sharpness.every=30it"]


@pytest.mark.parametrize(
    "extra", [[], ["optimizer.clip_norm=1", "ema=1ep", "probe=gradient_norm"], ["model=cnn"], ["probe=full"], MEASURED]
)
def test_iteration_neither_waits_nor_touches_files(
    train: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, extra: list[str]
) -> None:
    inside = threading.local()
    step = MiniBatchModule.training_step

    def guarded(self: Any, mini_batch: Any, batch_idx: int) -> None:
        inside.is_on = True
        try:
            step(self, mini_batch, batch_idx)
        finally:
            inside.is_on = False

    def forbid(owner: Any, name: str) -> None:
        original = getattr(owner, name)

        def refuse(*args: Any, **kwargs: Any) -> Any:
            assert not getattr(inside, "is_on", False), f"{name} inside an iteration"
            return original(*args, **kwargs)

        monkeypatch.setattr(owner, name, refuse)

    monkeypatch.setattr(MiniBatchModule, "training_step", guarded)
    for name in ("item", "tolist", "cpu", "numpy", "__float__", "__bool__", "__int__", "__len__"):
        if name != "__len__":
            forbid(torch.Tensor, name)
    forbid(builtins, "open")
    forbid(builtins, "print")
    forbid(socket, "socket")
    train("duration=100it", *extra)


@pytest.mark.gpu
def test_iteration_never_synchronises_on_a_gpu(train: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    step = MiniBatchModule.training_step

    def guarded(self: Any, mini_batch: Any, batch_idx: int) -> None:
        with waiting_for_nothing(mini_batch.device) if mini_batch.iteration.index > 2 else nullcontext():
            step(self, mini_batch, batch_idx)

    monkeypatch.setattr(MiniBatchModule, "training_step", guarded)
    # No block ends on the way: the log's thread may wait.
    monkeypatch.setattr(recorder, "BLOCK_SECONDS", 600.0)
    train("duration=60it", "trainer.accelerator=gpu", "optimizer.clip_norm=1", "ema=1ep", "probe=gradient_norm")
