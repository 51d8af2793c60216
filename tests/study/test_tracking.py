"""One tracker process for a sweep: it has every job's rows, and costs no job anything."""

import csv
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import orjson
import pytest

from tests.conftest import rows
from tests.forked import Forked
from tests.study.conftest import at

Sweep = Callable[..., tuple[int, str]]
SIDE = [sys.executable, "-m", "mbtrain.trackers"]


def tracked(folder: Path) -> list[int]:
    with (folder / "trackers" / "iterations.csv").open(newline="") as file:
        return [int(row["iteration"]) for row in csv.DictReader(file)]


def side_processes(parent: int) -> list[int]:
    """The children of a process that run the trackers' command."""
    children = Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
    return [int(one) for one in children if b"mbtrain.trackers" in Path(f"/proc/{one}/cmdline").read_bytes()]


def test_the_rows_of_every_job_are_handed_over(sweep: Sweep) -> None:
    code, said = sweep("loss=good,killed", "seed=0,1", "duration=2ep", "tracker=csv", "sweep.jobs=2")
    assert code == 1 and "trackers:" not in said
    for seed in (0, 1):
        assert tracked(at(f"duration=2ep,loss=good,seed={seed}")) == list(range(1, 83))


def test_one_process_follows_all_jobs(start: Callable[..., Forked]) -> None:
    process = start("loss=slow", "seed=0,1", "duration=1000ep", "tracker=csv", "sweep.jobs=2")
    process.wait_for(*(at(f"duration=1000ep,loss=slow,seed={seed}") / "iterations.jsonl" for seed in (0, 1)))
    assert len(side_processes(process.pid)) == 1


def test_trackers_that_die_end_no_job_and_are_told_of(start: Callable[..., Forked]) -> None:
    process = start("loss=slow", "seed=0,1", "duration=4ep", "tracker=csv")
    process.wait_for(at("duration=4ep,loss=slow,seed=0") / "iterations.jsonl")
    (side,) = side_processes(process.pid)
    os.kill(side, signal.SIGKILL)
    assert process.exit_code() == 0
    assert "not all handed over; again: python -m mbtrain.trackers --sweep s" in process.said
    assert subprocess.run([*SIDE, "--sweep", "s"]).returncode == 0
    for seed in (0, 1):
        folder = at(f"duration=4ep,loss=slow,seed={seed}")
        assert tracked(folder) == [row["iteration"] for row in rows(folder)]


def test_trackers_that_hang_hold_no_job_up(start: Callable[..., Forked], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mbtrain.study.tracking.PATIENCE_SECONDS", 0.5)
    process = start("loss=good", "seed=0,1", "duration=3it", "tracker=csv")
    deadline = time.monotonic() + 60
    while not (sides := side_processes(process.pid)) and time.monotonic() < deadline:
        time.sleep(0.01)
    os.kill(sides[0], signal.SIGSTOP)
    assert process.exit_code() == 0
    os.kill(sides[0], signal.SIGKILL)
    assert "have not read all of the logs yet" in process.said


def test_the_same_command_hands_over_what_was_left(sweep: Sweep) -> None:
    command = ["loss=good", "seed=0", "duration=3it"]
    assert sweep(*command)[0] == 0
    assert sweep(*command, "tracker=csv")[0] == 0
    assert tracked(at("duration=3it,loss=good,seed=0")) == [1, 2, 3]
    sweep("loss=good", "seed=1", "duration=3it", "tracker=csv")
    state = at("duration=3it,loss=good,seed=1") / "trackers" / "csv.json"
    state.write_bytes(orjson.dumps(orjson.loads(state.read_bytes()) | {"status": "running"}))
    sweep("loss=good", "seed=1", "duration=3it", "tracker=csv")
    assert orjson.loads(state.read_bytes())["status"] == "complete"


def test_a_folder_that_is_no_sweep_is_refused_in_one_line(tmp_path: Path) -> None:
    done = subprocess.run([*SIDE, "--sweep", str(tmp_path)], capture_output=True, text=True)
    assert done.returncode == 2 and len(done.stderr.splitlines()) == 1 and "no sweep.json" in done.stderr
