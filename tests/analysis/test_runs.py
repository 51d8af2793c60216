"""Which runs are found in folders, and what is said of them."""

import json
import os
import subprocess
from pathlib import Path

import pytest

from mbtrain.analysis.runs import find
from mbtrain.plan.refused import Refused
from tests.analysis.folders import make_run, make_sweep, write_sweep


def test_a_run_a_sweep_and_a_folder_of_either_are_found(tmp_path: Path) -> None:
    make_run(tmp_path / "runs" / "one")
    make_sweep(tmp_path / "sweeps" / "first", {("seed=0",): 0.5, ("seed=1",): 0.6})
    assert [run.name for run in find([tmp_path / "runs" / "one"]).runs] == ["one"]
    assert [run.name for run in find([tmp_path / "sweeps" / "first"]).runs] == ["seed=0", "seed=1"]
    found = find([tmp_path])
    assert len(found.runs) == 3 and set(found.groups) == {tmp_path.name, "first"}


def test_a_folder_given_twice_counts_once(tmp_path: Path) -> None:
    make_run(tmp_path / "one")
    assert len(find([tmp_path, tmp_path / "one"]).runs) == 1


@pytest.mark.parametrize("name", ["empty", "file", "missing"])
def test_anything_else_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("")
    with pytest.raises(Refused, match=name):
        find([tmp_path / name])


def test_a_job_that_has_not_begun_is_waiting(tmp_path: Path) -> None:
    write_sweep(tmp_path, [{"folder": "seed=0", "overrides": ["seed=0"]}])
    assert [run.status for run in find([tmp_path]).runs] == ["waiting"]


def test_a_running_run_without_its_process_was_killed(tmp_path: Path) -> None:
    ended = subprocess.Popen(["true"])
    ended.wait()
    make_run(tmp_path / "dead", status="running", pid=ended.pid)
    make_run(tmp_path / "alive", status="running", pid=os.getpid())
    assert {run.name: run.status for run in find([tmp_path]).runs} == {"dead": "killed", "alive": "running"}


def test_a_run_without_result_has_its_last_validation(tmp_path: Path) -> None:
    make_run(tmp_path / "one", score=0.25, status="running", pid=os.getpid())
    (run,) = find([tmp_path / "one"]).runs
    assert run.result["val/loss"] == 0.25


def test_overrides_are_the_job_s_and_then_the_sweep_s(tmp_path: Path) -> None:
    job = {"folder": "a", "overrides": ["seed=0"]}
    write_sweep(tmp_path, [job], given=["seed=0,1", "duration=3ep", "sweep_dir=x"])
    assert find([tmp_path]).runs[0].overrides == ("seed=0", "duration=3ep")


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("config.yaml", "a: [1"),
        ("config.yaml", "- 1"),
        ("config.yaml", "a: &x {b: *x}"),
        ("config.yaml", "!!python/object/apply:os.getcwd []"),
        ("status.json", "{"),
        ("status.json", "7"),
        ("result.json", '{"val/loss": '),
    ],
)
def test_a_damaged_run_is_told_and_left_out(tmp_path: Path, name: str, text: str) -> None:
    make_run(tmp_path / "good")
    (make_run(tmp_path / "bad") / name).write_text(text)
    found = find([tmp_path])
    assert [run.name for run in found.runs] == ["good"]
    assert len(found.notes) == 1 and "bad" in found.notes[0]


@pytest.mark.parametrize("text", ["{", "[]", '{"jobs": 3}', json.dumps({"jobs": [{}], "factors": []})])
def test_a_damaged_sweep_file_leaves_its_runs(tmp_path: Path, text: str) -> None:
    make_sweep(tmp_path, {("seed=0",): 0.5, ("seed=1",): 0.6})
    (tmp_path / "sweep.json").write_text(text)
    found = find([tmp_path])
    assert len(found.runs) == 2 and "sweep.json is damaged" in found.notes[0]
