"""A checkpoint at every iteration of two epochs, the run resumed from each: all equal. And what breaks it."""

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from mbtrain.training import checkpoint, module
from mbtrain.training.checkpoint import loadable, newest, snapshot
from mbtrain.training.recorder import Recorder
from mbtrain.training.sealed import read_sealed
from tests.conftest import rows, without_times

PLAIN = ["duration=2ep", "batch.size=200", "checkpoint.every=1it", "checkpoint.keep=1000", "validate.every=3it"]
RICH = [
    *["model=cnn", "model.channels=[2,3]", "model.dropout=0.3", "dataset.augment=[flip,crop]", "batch.micro_size=64"],
    *["batch_norm.group_size=16", "ema=1ep", "optimizer=adamw", "optimizer.lr=1e-3", "lr_schedule=cosine"],
    *["validate.best=val/loss", "probe=gradient_norm"],
]
NUM_ITERATIONS = 14


def cut_back(run_dir: Path, to: Path, iterations: int) -> None:
    """A copy of a run as it is after `iterations`, killed before the next checkpoint; its log is longer."""
    shutil.copytree(run_dir, to)
    for path in newest(to / "checkpoints"):
        if int(path.stem.split("-")[1]) > iterations:
            path.unlink()
    (to / "result.json").unlink()
    (to / "status.json").write_text(json.dumps({"status": "running", "pid": 1 << 22, "message": None}))


def same(one: Any, other: Any) -> bool:
    return one["weights_sha256"] == other["weights_sha256"] and all(
        without_times(rows(one.run_dir, name)) == without_times(rows(other.run_dir, name))
        for name in ("iterations", "epochs")
    )


@pytest.fixture
def resumed(train: Callable[..., Any], tmp_path: Path) -> Iterator[Callable[..., list[int]]]:
    """Run, resume from each checkpoint in a copy; the iterations from which the run came out another."""

    def resume(*overrides: str, at: Any = range(1, NUM_ITERATIONS + 1)) -> list[int]:
        whole = train(*PLAIN, *overrides, f"run_dir={tmp_path}/whole")
        assert len(newest(tmp_path / "whole" / "checkpoints")) == NUM_ITERATIONS
        different = []
        for iterations in at:
            copy = tmp_path / f"at{iterations}"
            cut_back(tmp_path / "whole", copy, iterations)
            if not same(train(*PLAIN, *overrides, f"run_dir={copy}"), whole):
                different.append(iterations)
            shutil.rmtree(copy)
        return different

    yield resume


@pytest.mark.slow
@pytest.mark.parametrize("loop", ["lean", "stock"])
def test_run_resumed_from_any_iteration_is_the_same(resumed: Any, loop: str) -> None:
    assert resumed(*RICH, f"trainer.loop={loop}") == []


SOME = (6, 7, 8, 13)


def test_control_without_seeds_per_iteration_dropout_differs(resumed: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "seed_iteration", lambda *_: None)
    assert resumed("model.dropout=0.2", at=SOME) != []


def test_control_without_a_snapshot_later_updates_reach_the_checkpoint(
    train: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def weights(kind: str) -> Any:
        result = train("duration=4it", "checkpoint.every=1it", "checkpoint.keep=9", f"run_dir={tmp_path}/{kind}")
        path = result.run_dir / "checkpoints" / f"iteration-{1:012d}.ckpt"
        return read_sealed(path)["state_dict"]["model.layers.0.weight"]

    def late(self: Any, job: Callable[[], None]) -> None:
        waiting.append(job)

    # The disk is slow: every write happens when the run is over.
    waiting: list[Callable[[], None]] = []
    finish = checkpoint.CheckpointFiles.finish

    def finish_late(self: Any) -> None:
        while waiting:
            waiting.pop(0)()
        finish(self)

    right = weights("right")
    monkeypatch.setattr(checkpoint.CheckpointFiles, "_put", late)
    monkeypatch.setattr(checkpoint.CheckpointFiles, "finish", finish_late)
    assert bool((weights("late") == right).all())
    monkeypatch.setattr(checkpoint, "snapshot", lambda value: value)
    assert not bool((weights("without") == right).all())


def test_control_without_the_log_s_cut_rows_come_twice(resumed: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mbtrain.log.writer._File.__init__", _uncut)
    assert resumed(at=SOME) == list(SOME)


def _uncut(self: Any, path: Path, start: Any) -> None:
    import hashlib

    self._path, self._length, self._hash = path, path.stat().st_size if path.exists() else 0, hashlib.sha256()
    self._file = open(path, "ab", buffering=0)  # noqa: SIM115 (closed by close)


def test_control_without_the_means_of_the_epoch_so_far_its_row_differs(
    resumed: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    load = Recorder.load

    def forgetful(self: Any, state: Any) -> None:
        load(self, state)
        self._means.sums.clear()

    monkeypatch.setattr(Recorder, "load", forgetful)
    assert resumed(at=SOME) == [6, 8, 13]


def test_loading_takes_the_newest_that_is_whole(train: Callable[..., Any], tmp_path: Path) -> None:
    run_dir = train(*PLAIN, "duration=1ep", f"run_dir={tmp_path}/run").run_dir
    saved, told = newest(run_dir / "checkpoints"), []
    saved[0].write_bytes(saved[0].read_bytes()[:-1])
    saved[1].write_bytes(b"")
    found = loadable(run_dir / "checkpoints", tell=told.append)
    assert found is not None and found[0] == saved[2] and len(told) == 2
    assert found[1]["mbtrain"]["config"]["batch"]["size"] == 200 and found[1]["mbtrain"]["chosen"]["threads"] == 1


def test_snapshot_shares_nothing_with_what_it_was_taken_of() -> None:
    import torch

    weight = torch.ones(3)
    taken = snapshot({"a": [weight, (weight, 2)], "b": None})
    weight.add_(1)
    assert taken["b"] is None and taken["a"][1][1] == 2
    assert torch.equal(taken["a"][0], torch.ones(3)) and torch.equal(taken["a"][1][0], torch.ones(3))
