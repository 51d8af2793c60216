"""Disks that fill up, cannot be written, or are another filesystem than the temporary folder."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from mbtrain.__main__ import exit_code
from mbtrain.plan.refused import Refused
from mbtrain.training.checkpoint import newest
from mbtrain.training.sealed import is_sealed
from tests.conftest import QUIET, rows, without_times
from tests.forked import Forked

pytestmark = pytest.mark.slow
LENGTH = ["duration=15ep", "batch.size=16", "checkpoint.every=20it", "model.hidden=[16]", "validate.every=null"]
Mount = Callable[..., Path]


@pytest.fixture
def mount(tmp_path: Path) -> Iterator[Mount]:
    """Mount a small filesystem of its own in memory."""
    folders: list[Path] = []

    def make(name: str, options: str) -> Path:
        folder = tmp_path / name
        folder.mkdir(exist_ok=True)
        command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)]
        if folder in folders:
            command = ["mount", "-o", f"remount,{options}", str(folder)]
        if sys.platform != "linux" or subprocess.run(command, capture_output=True).returncode:
            pytest.skip("filesystems cannot be mounted here")
        folders.append(folder)
        return folder

    yield make
    for folder in dict.fromkeys(folders):
        subprocess.run(["umount", str(folder)], check=True)


def run(run_dir: Path, *overrides: str) -> Callable[[], int]:
    """The command line of a run."""
    return lambda: exit_code([*QUIET, *LENGTH, *overrides, f"run_dir={run_dir}"])


def test_full_disk_is_told_in_one_line_and_the_run_goes_on_once_there_is_room(
    forked: Callable[..., Forked], train: Callable[..., Any], mount: Mount
) -> None:
    folder = mount("small", "size=200k")
    code, said = forked(run(folder / "run")).ended()
    assert code == 1 and "Traceback" not in said
    assert "No space left on device under" in said and "resume=" in said
    saved = newest(folder / "run" / "checkpoints")
    assert saved and all(is_sealed(path) for path in saved)
    assert all(line.endswith("}") for line in (folder / "run" / "iterations.jsonl").read_text().splitlines())
    mount("small", "size=50m")
    code, said = forked(run(folder / "run")).ended()
    assert code == 0 and "going on after iteration" in said
    whole = train(*LENGTH)
    assert json.loads((folder / "run" / "result.json").read_text())["weights_sha256"] == whole["weights_sha256"]
    assert without_times(rows(folder / "run")) == without_times(rows(whole.run_dir))


def test_folder_that_cannot_be_written_is_refused_at_the_start(train: Callable[..., Any], mount: Mount) -> None:
    folder = mount("fixed", "ro")
    for run_dir in (folder, folder / "run"):
        with pytest.raises(Refused, match=r"run_dir=.*cannot be (made|written)"):
            train("duration=1it", f"run_dir={run_dir}")


def test_kills_during_a_save_with_the_temporary_folder_elsewhere_leave_no_damaged_file(
    forked: Callable[..., Forked], tmp_path: Path, mount: Mount
) -> None:
    elsewhere, run_dir = mount("elsewhere", "size=50m"), tmp_path / "run"
    for _ in range(3):
        process = forked(run(run_dir, "checkpoint.every=1it", "model.hidden=[2000]"), TMPDIR=str(elsewhere))
        checkpoints = run_dir / "checkpoints"
        before = len(newest(checkpoints)) and newest(checkpoints)[0].name
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            saved = newest(checkpoints)
            if saved and saved[0].name != before and list(checkpoints.glob(".*.tmp")):
                break
        process.kill()
        assert newest(checkpoints) and all(is_sealed(path) for path in newest(checkpoints))
    assert not list(elsewhere.iterdir())


def test_tracker_whose_disk_is_full_says_so_and_is_completed_once_there_is_room(
    train: Callable[..., Any], tmp_path: Path, mount: Mount
) -> None:
    run_dir = train(*LENGTH, f"run_dir={tmp_path}/run").run_dir
    words = [sys.executable, "-m", "mbtrain.trackers", str(run_dir), "wandb"]
    environ = os.environ | {"WANDB_MODE": "offline"}
    mount("run/wandb", "size=300k")
    full = subprocess.run(words, capture_output=True, text=True, env=environ)
    assert full.returncode == 1 and "No space left on device" in full.stderr and "Traceback" not in full.stderr
    assert json.loads((run_dir / "result.json").read_bytes())["trackers"]["wandb"]["status"] == "failed"
    mount("run/wandb", "size=100m")
    assert subprocess.run(words, capture_output=True, env=environ).returncode == 0
    state = json.loads((run_dir / "result.json").read_bytes())["trackers"]["wandb"]
    assert state["status"] == "complete" and state["rows"] == len(rows(run_dir))
