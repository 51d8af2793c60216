"""The lean loop against Lightning's own: weights, counters, callbacks and their order, validation, checkpoints."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch

from mbtrain import assembly as assembly_module
from mbtrain.training.update import Update
from tests.conftest import rows, without_times

HOOKS = [
    name
    for name in dir(pl.Callback)
    if name.startswith(("on_", "setup", "teardown")) and "checkpoint" not in name and name != "on_exception"
]


class Diary(pl.Callback):
    """Writes down every hook with the counters that a callback can see there."""

    def __init__(self) -> None:
        self.entries: list[tuple[Any, ...]] = []

    def note(self, name: str, trainer: pl.Trainer) -> None:
        progress = trainer.fit_loop.epoch_loop.batch_progress
        counters = (trainer.global_step, trainer.current_epoch, progress.total.processed, progress.current.processed)
        flags = (progress.is_last_batch, trainer.should_stop, trainer.training, trainer.validating)
        self.entries.append((name, *counters, *flags))


def _noting(name: str) -> Callable[..., None]:
    def hook(self: Diary, trainer: pl.Trainer, *_: Any, **__: Any) -> None:
        self.note(name, trainer)

    return hook


for _name in HOOKS:
    setattr(Diary, _name, _noting(_name))


class Stopper(pl.Callback):
    """Asks for a stop in the middle of an epoch."""

    def on_train_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
        if trainer.global_step == 9:
            trainer.should_stop = True


def run_with(
    train: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, loop: str, overrides: list[str], *more: pl.Callback
) -> tuple[Any, Diary]:
    diary = Diary()
    monkeypatch.setattr(assembly_module, "callbacks_of", lambda config: (diary, *more))
    return train(f"trainer.loop={loop}", "batch.size=200", *overrides), diary


CASES = {
    "plain": ["duration=3ep"],
    "validate in mid-epoch": ["duration=3ep", "validate.every=3it"],
    "validate across epochs": ["duration=3ep", "validate.every=9it"],
    "no validation": ["duration=2ep", "dataset.val_fraction=0"],
    "one iteration an epoch": ["duration=3ep", "batch.size=all"],
    "cut short": ["duration=10it"],
    "drop last": ["duration=2ep", "batch.drop_last=true"],
    "bf16": ["duration=2ep", "trainer.precision=bf16-mixed"],
    "double": ["duration=2ep", "trainer.precision=64-true"],
    "early stop": ["duration=9ep", "validate.stop_at=val/accuracy>0.8"],
    "batch norm": [
        "duration=2ep",
        "model=cnn",
        "model.channels=[4]",
        "batch.micro_size=50",
        "batch_norm.group_size=25",
    ],
}


@pytest.mark.parametrize("case", CASES)
def test_lean_loop_does_what_the_stock_loop_does(
    train: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, case: str
) -> None:
    (lean, lean_diary), (stock, stock_diary) = (
        run_with(train, monkeypatch, loop, CASES[case]) for loop in ("lean", "stock")
    )
    assert lean["weights_sha256"] == stock["weights_sha256"]
    for name in ("iterations", "epochs"):
        assert without_times(rows(lean.run_dir, name)) == without_times(rows(stock.run_dir, name))
    assert checkpoint_names(lean.run_dir) == checkpoint_names(stock.run_dir)
    assert lean_diary.entries == stock_diary.entries


def test_stop_asked_by_a_callback_is_heeded_alike(train: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    (lean, lean_diary), (stock, stock_diary) = (
        run_with(train, monkeypatch, loop, ["duration=3ep"], Stopper()) for loop in ("lean", "stock")
    )
    assert lean["iterations"] == stock["iterations"] == 9
    assert lean["weights_sha256"] == stock["weights_sha256"]
    assert [entry[:2] for entry in lean_diary.entries] == [entry[:2] for entry in stock_diary.entries]


def checkpoint_names(run_dir: Path) -> list[str]:
    return sorted(path.name for path in (run_dir / "checkpoints").iterdir())


@pytest.mark.parametrize("loop", ["lean", "stock"])
def test_one_iteration_is_one_update_one_row_and_one_global_step(
    train: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, loop: str
) -> None:
    steps: list[int] = []
    original = Update.step

    def step(self: Update, **options: Any) -> bool:
        before = [one.clone() for one in self._parameters]
        updated = original(self, **options)
        steps.append(int(any(not torch.equal(a, b) for a, b in zip(before, self._parameters, strict=True))))
        return updated

    monkeypatch.setattr(Update, "step", step)
    result, diary = run_with(train, monkeypatch, loop, ["duration=2ep", "batch.micro_size=30"])
    table = rows(result.run_dir)
    assert sum(steps) == len(steps) == len(table) == result["iterations"] == 14
    assert [row["iteration"] for row in table] == list(range(1, 15))
    assert diary.entries[-1][1] == 14
    ends = [entry for entry in diary.entries if entry[0] == "on_train_batch_end"]
    assert [entry[1] for entry in ends] == list(range(1, 15))
    before = [entry for entry in diary.entries if entry[0] == "on_before_optimizer_step"]
    assert len(before) == 14


def test_first_row_has_exactly_the_documented_keys(train: Callable[..., Any]) -> None:
    row = rows(train("duration=1ep").run_dir)[0]
    assert list(row) == [
        "iteration",
        "epoch",
        "samples_seen",
        "batch_size",
        "num_micro_batches",
        "updated",
        "lr",
        "train/loss",
        "noise_scale_sgd",
        "train/accuracy",
        "time/iteration_s",
        "time/elapsed_s",
    ]
