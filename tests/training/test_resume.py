"""Promise 4: a run that was cut goes on bit-exactly, and every iteration is in the log exactly once."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from mbtrain.plan.refused import Refused
from mbtrain.training.module import MiniBatchModule
from tests.conftest import rows, without_times

LENGTH = ["duration=3ep", "batch.size=200", "checkpoint.every=2it"]  # 7 iterations an epoch, the last of 94
EVERYTHING = [
    "model=cnn",
    "model.channels=[4,8]",
    "model.dropout=0.3",
    "dataset.augment=[flip,crop]",
    "batch.micro_size=64",
    "batch_norm.group_size=16",
    "ema=1ep",
    "optimizer=adamw",
    "optimizer.lr=1e-3",
    "optimizer.clip_norm=1",
    "lr_schedule=cosine",
    "lr_schedule.warmup=2it",
    "validate.every=3it",
    "validate.best=val/loss",
    "probe=gradient_norm",
]


class Killed(BaseException):
    """Stands for a kill: nothing in the program catches it."""


def train_with_kills(train: Callable[..., Any], run_dir: Path, at: list[int], overrides: list[str]) -> Any:
    """Train, dying at the start of each iteration of `at` (after what is left of the previous ones was logged)."""
    step = MiniBatchModule.training_step
    pending = list(at)

    def mortal(self: Any, mini_batch: Any, batch_idx: int) -> None:
        if pending and mini_batch.iteration.index == pending[0]:
            pending.pop(0)
            raise Killed
        step(self, mini_batch, batch_idx)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(MiniBatchModule, "training_step", mortal)
        for _ in at:
            with pytest.raises(Killed):
                train(f"run_dir={run_dir}", *overrides)
        result = train(f"run_dir={run_dir}", *overrides)
    assert not pending
    return result


def check_same_run(cut: Any, whole: Any) -> None:
    assert cut["weights_sha256"] == whole["weights_sha256"]
    for name in ("iterations", "epochs"):
        assert without_times(rows(cut.run_dir, name)) == without_times(rows(whole.run_dir, name))
    for key, value in whole.values.items():
        if key.startswith(("test/", "val/", "best/")) or key in ("iterations", "epochs", "samples_seen"):
            assert cut[key] == value, key


@pytest.mark.parametrize("loop", ["lean", "stock"])
@pytest.mark.parametrize("at", [[1], [6], [7], [8], [13, 14, 15], [20], [3, 3, 9, 19]], ids=str)
def test_cut_run_equals_the_whole_one(
    train: Callable[..., Any], train_once: Callable[..., Any], tmp_path: Path, loop: str, at: list[int]
) -> None:
    overrides = [*LENGTH, f"trainer.loop={loop}", "validate.every=3it"]
    check_same_run(train_with_kills(train, tmp_path / "cut", at, overrides), train_once(*overrides))


@pytest.mark.parametrize("loop", ["lean", "stock"])
@pytest.mark.parametrize(
    "extra",
    [
        [],
        ["dataset.workers=0", "optimizer=sgd", "lr_schedule=step"],
        ["trainer.precision=bf16-mixed", "sampler=with_replacement"],
        ["checkpoint.every=1ep", "sampler=shuffle_once", "batch.drop_last=true"],
    ],
    ids=str,
)
def test_everything_at_once_survives_kills(
    train: Callable[..., Any], tmp_path: Path, loop: str, extra: list[str]
) -> None:
    overrides = [*LENGTH, *EVERYTHING, f"trainer.loop={loop}", *extra]
    at = [5, 14, 17] if "batch.drop_last=true" not in extra else [5, 12, 17]
    check_same_run(train_with_kills(train, tmp_path / "cut", at, overrides), train(*overrides))


@pytest.mark.slow
def test_workers_survive_kills(train: Callable[..., Any], tmp_path: Path) -> None:
    overrides = [*LENGTH, "dataset.workers=2"]
    check_same_run(train_with_kills(train, tmp_path / "cut", [4, 15], overrides), train(*overrides))


@pytest.mark.parametrize("short", ["2ep", "10it", "1.5ep"])
def test_longer_run_equals_one_that_was_that_long_from_the_start(
    train: Callable[..., Any], tmp_path: Path, short: str
) -> None:
    overrides = ["batch.size=200", "model.dropout=0.1", "validate.every=3it", f"run_dir={tmp_path}/run"]
    train(*overrides, f"duration={short}")
    longer = train(*overrides, "duration=3ep")
    check_same_run(longer, train(*overrides[:-1], "duration=3ep"))


def test_longer_run_whose_schedule_differs_is_refused(train: Callable[..., Any], tmp_path: Path) -> None:
    overrides = ["batch.size=200", "lr_schedule=cosine", f"run_dir={tmp_path}/run"]
    train(*overrides, "duration=1ep")
    with pytest.raises(Refused, match="duration=2ep: under lr_schedule=Cosine .* other learning rates"):
        train(*overrides, "duration=2ep")


def test_resume_by_folder_takes_its_config(train: Callable[..., Any], tmp_path: Path) -> None:
    first = train("batch.size=100", "duration=1ep", "seed=5", "model.hidden=[17]")
    longer = train(f"resume={first.run_dir}", "duration=2ep")
    assert longer.run_dir == first.run_dir
    check_same_run(longer, train("batch.size=100", "duration=2ep", "seed=5", "model.hidden=[17]"))


def test_finished_run_does_nothing(train: Callable[..., Any], tmp_path: Path) -> None:
    overrides = [f"run_dir={tmp_path}/run", "duration=1ep"]
    first = train(*overrides)
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "run").rglob("*") if path.is_file()}
    again = train(*overrides)
    assert not again.is_new and again.values == first.values
    assert {p: p.stat().st_mtime_ns for p in (tmp_path / "run").rglob("*") if p.is_file()} == before


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("batch.size=33", "batch.size=33: the run in .* has batch.size=32"),
        ("seed=1", "seed=1: the run in .* has seed=0"),
        ("optimizer=adamw", "optimizer._target_="),
        ("resume=never", "is not empty, and resume=never"),
        ("duration=10it", "has done 41 iterations already"),
    ],
)
def test_other_config_in_the_same_folder_is_refused(
    train: Callable[..., Any], train_once: Callable[..., Any], change: str, message: str
) -> None:
    run = train_once("duration=1ep")
    with pytest.raises(Refused, match=message):
        train(f"run_dir={run.run_dir}", "duration=1ep", change)


def test_folder_of_something_else_is_refused(train: Callable[..., Any], tmp_path: Path) -> None:
    (tmp_path / "precious.txt").write_text("mine")
    with pytest.raises(Refused, match="is not empty and holds no run"):
        train(f"run_dir={tmp_path}")
    assert [path.name for path in tmp_path.iterdir()] == ["precious.txt"]


def test_damaged_newest_checkpoint_is_named_and_the_one_before_is_used(
    train: Callable[..., Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run_dir = tmp_path / "cut"
    step = MiniBatchModule.training_step
    with pytest.MonkeyPatch.context() as patch, pytest.raises(Killed):
        patch.setattr(MiniBatchModule, "training_step", _dies_at(step, 15))
        train(f"run_dir={run_dir}", *LENGTH)
    newest = sorted((run_dir / "checkpoints").glob("iteration-*"))[-1]
    newest.write_bytes(newest.read_bytes()[:2000])
    result = train(f"run_dir={run_dir}", *LENGTH, is_quiet=False)
    assert f"checkpoint {newest.name} is damaged" in capsys.readouterr().err
    check_same_run(result, train(*LENGTH))


def _dies_at(step: Callable[..., Any], index: int) -> Callable[..., Any]:
    def mortal(self: Any, mini_batch: Any, batch_idx: int) -> None:
        if mini_batch.iteration.index == index:
            raise Killed
        step(self, mini_batch, batch_idx)

    return mortal


class Renamed(torch.nn.Module):
    """Has its layer under another name in another version."""

    layer = "old"

    def __init__(self, num_outputs: int) -> None:
        super().__init__()
        self.add_module(self.layer, torch.nn.Linear(64, num_outputs))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Outputs [n, num_outputs]."""
        return self.get_submodule(self.layer)(x.flatten(1))


def test_checkpoint_of_another_version_of_the_model_is_refused_in_one_line(
    train: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = [f"model._target_={__name__}.Renamed", "~model.hidden", "~model.dropout", "trust=[tests]"]
    own += ["checkpoint.every=1it", f"run_dir={tmp_path}/run"]
    train(*own, "duration=2it")
    monkeypatch.setattr(Renamed, "layer", "new")
    with pytest.raises(Refused, match=r"go on with the code that began this run.* do not fit the model: .*new.weight"):
        train(*own, "duration=4it")
    monkeypatch.setattr(Renamed, "layer", "old")
    assert train(*own, "duration=4it")["iterations"] == 4
