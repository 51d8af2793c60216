"""`study=advise` from end to end on as little as it takes, its ways to make an update, and what it refuses."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson
import pytest

from mbtrain.assembly import read_data
from mbtrain.study.advice_ways import Cut, batch_sizes, cuts, timing_config
from mbtrain.timed_run import first_pass, timed_run
from mbtrain.training.module import MiniBatchModule
from tests.composing import composed
from tests.memory import Memory

Command = Callable[..., tuple[int, str]]
DIGITS = ["dataset=digits", "dataset.train_size=320", "trainer.threads=1", "trainer.accelerator=cpu"]
TINY = [*DIGITS, "model.hidden=[8]"]
CNN = [*DIGITS, "model=cnn", "model.channels=[4,4]", "batch.size=16"]


def measurements() -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in [*Path("a").rglob("*.jsonl"), Path("a/timing.json")]}


@pytest.mark.slow
def test_advice_is_a_command_and_a_calibration_adds_to_what_was_measured(command: Command) -> None:
    asked = [*DIGITS, "study=advise", "study_dir=a", "study.seconds=0.5", "study.sizes=[16,64]", "batch.size=16"]
    asked += ["model.hidden=[32]", "optimizer.lr=0.05", "study.trajectory=4ep"]
    code, said = command(*asked)
    assert code == 0, said
    advice = orjson.loads(Path("a/advice.json").read_bytes())
    assert {(one["batch_size"], one["micro_size"]) for one in advice["ways"]} == {(16, 16), (64, 64), (64, 16)}
    assert advice["run"] in said and advice["answer"] in said
    assert advice["critical"]["high"] == pytest.approx(20 * advice["critical"]["low"])
    before = measurements()
    few = [
        "study.calibrated_sizes=[16,64]",
        "study.num_tuning_seeds=1",
        "study.num_seeds=2",
        "study.target=val/loss<=1",
    ]
    code, said = command(*asked, "study.calibrate=true", *few)
    assert code == 0 and before.items() <= measurements().items(), said
    calibrated = orjson.loads(Path("a/advice.json").read_bytes())
    assert set(calibrated["calibration"]["samples"]) == {"16", "64"}
    assert "Calibrated under SGD and a constant learning rate" in said
    code, said = command(*asked, "model.hidden=[4]")
    assert code == 2 and "study_dir=a: holds advice on another run" in said


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["study.sizes=[32]"], "study.sizes=[32]: must be two or more batch sizes of at least 1, such as [32,64,128]"),
        (["study.seconds=0"], "study.seconds=0: must be a number above 0"),
        (["study.trajectory=2"], "study.trajectory=2: not a length such as 5ep"),
        (["batch_schedule=ramp"], "advice is on one size: leave batch_schedule out"),
        (["study.from=nowhere"], "study.from=nowhere: has no iterations.jsonl"),
        (["batch.sise=3"], "batch.sise"),
    ],
)
def test_what_makes_no_sense_is_refused_in_one_line(command: Command, overrides: list[str], message: str) -> None:
    code, said = command("study=advise", "study_dir=a", *TINY, *overrides)
    assert code == 2 and message in said and "Traceback" not in said


def test_usual_sizes_hold_the_own_one_and_end_with_the_data() -> None:
    assert batch_sizes(32, 60_000) == [16, 32, 64, 128, 256, 512, 1024]
    assert batch_sizes("all", 100) == [16, 32, 64]
    assert batch_sizes(1, 60_000)[0] == 1 and 3000 in batch_sizes(3000, 60_000)


def test_no_micro_batch_splits_a_bn_group() -> None:
    assert [cut for cut in cuts([16, 32, 64, 128], 32) if cut.micro_size < cut.batch_size] == [
        Cut(64, 32),
        Cut(128, 64),
        Cut(128, 32),
    ]


def test_timed_run_times_whole_updates_of_the_cut_that_is_asked_for(tmp_path: Path) -> None:
    base = composed(CNN)
    data = read_data(base)
    config = timing_config(base, Cut(64, 16), iterations=6, run_dir=str(tmp_path / "run"))
    timed = timed_run(config, warm_up=2, data=data)
    assert timed is not None and 0 < timed.seconds < 1 and timed.cpu_seconds > 0
    rows = [orjson.loads(line) for line in (tmp_path / "run" / "iterations.jsonl").read_bytes().splitlines()]
    assert [row["num_micro_batches"] for row in rows] == [4] * 6
    assert {row["batch_size"] for row in rows} == {64}
    told = first_pass(config, data=data)
    assert told.has_batch_norm and told.kept_bytes > 0


def test_warm_up_is_left_out_and_all_that_comes_after_is_timed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    base, step = composed(TINY), MiniBatchModule.training_step

    def slow(self: Any, mini_batch: Any, batch_idx: int) -> None:
        time.sleep(0.2 if mini_batch.iteration.index < 2 else 0.01)
        step(self, mini_batch, batch_idx)

    monkeypatch.setattr(MiniBatchModule, "training_step", slow)
    config = timing_config(base, Cut(16, 16), iterations=8, run_dir=str(tmp_path / "run"))
    timed = timed_run(config, warm_up=2, data=read_data(base))
    assert timed is not None and 0.01 <= timed.seconds < 0.05
    assert timed.cpu_seconds < timed.seconds


def test_way_that_memory_does_not_bear_has_no_time(tmp_path: Path, memory: Memory) -> None:
    base = composed(CNN)
    data = read_data(base)
    memory.limit(32)
    times = {
        cut: timed_run(timing_config(base, cut, iterations=4, run_dir=str(tmp_path / cut.name)), warm_up=1, data=data)
        for cut in (Cut(64, 64), Cut(64, 32))
    }
    assert times[Cut(64, 64)] is None and times[Cut(64, 32)] is not None
