"""Whatever becomes of a tracker: the same weights, the log whole, one loud line, and it can be completed later."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import mbtrain
from mbtrain.__main__ import exit_code
from tests.conftest import QUIET, rows, without_times
from tests.forked import Forked

pytestmark = pytest.mark.slow
# Long enough for a tracker to be met alive; every iteration takes a little.
LENGTH = ["duration=60ep", "batch.size=16", "model.hidden=[8]", "validate.every=20ep", "checkpoint.every=20ep"]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return mbtrain.run([*QUIET, *LENGTH, f"run_dir={tmp_path_factory.mktemp('whole')}"])


@pytest.fixture
def start(forked: Callable[..., Forked], monkeypatch: pytest.MonkeyPatch) -> Callable[..., Forked]:
    """Start a run with a tracker."""
    quiet = [one for one in QUIET if not one.startswith("tracker=")]
    for name in [one for one in os.environ if one.startswith("WANDB")]:
        monkeypatch.delenv(name)

    def started(run_dir: Path, tracker: str) -> Forked:
        command = [*quiet, *LENGTH, f"tracker={tracker}", f"run_dir={run_dir}"]
        return forked(lambda: exit_code(command), WANDB_MODE="offline")

    return started


def processes(*words: str) -> list[int]:
    """The processes whose command line holds all of `words`."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            line = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode()
        except OSError:
            continue
        if all(word in line for word in words) and int(folder.name) != os.getpid():
            found.append(int(folder.name))
    return found


def children(parent: int) -> list[int]:
    """The processes below `parent`, however deep."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            above = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue
        if above == parent:
            found += [int(folder.name), *children(int(folder.name))]
    return found


def wait_for(condition: Callable[[], Any]) -> Any:
    deadline = time.monotonic() + 60
    while not (found := condition()):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return found


def side_process(process: Forked, run_dir: Path, tracker: str) -> int:
    """The tracker's process, once it has been given rows."""
    file = run_dir / "trackers" / f"{tracker}.json"
    wait_for(lambda: file.exists() and json.loads(file.read_bytes())["status"] == "running")
    return next(one for one in children(process.pid) if one in processes("mbtrain.trackers"))


def kill_side_process(process: Forked, run_dir: Path, tracker: str) -> None:
    os.kill(side_process(process, run_dir, tracker), signal.SIGKILL)


def kill_wandb_core(process: Forked, run_dir: Path, tracker: str) -> None:
    side = side_process(process, run_dir, tracker)
    cores = wait_for(lambda: [one for one in children(side) if one in processes("wandb-core")])
    for one in cores:
        os.kill(one, signal.SIGKILL)


def take_folder_away(process: Forked, run_dir: Path, tracker: str) -> None:
    side_process(process, run_dir, tracker)
    folder = run_dir / ("wandb" if tracker == "wandb" else "trackers")
    os.kill(process.pid, signal.SIGSTOP)
    shutil.rmtree(folder)
    folder.write_text("a file where the folder was")
    os.kill(process.pid, signal.SIGCONT)


@pytest.mark.skipif(not Path("/proc/self/cmdline").exists(), reason="needs /proc")
@pytest.mark.parametrize(
    ("tracker", "fault"),
    [
        ("csv", kill_side_process),
        ("csv", take_folder_away),
        ("wandb", kill_side_process),
        ("wandb", kill_wandb_core),
    ],
)
def test_tracker_that_dies_costs_nothing_and_is_completed_later(
    start: Callable[..., Forked], tmp_path: Path, whole: Any, tracker: str, fault: Callable[..., None]
) -> None:
    run_dir = tmp_path / "run"
    process = start(run_dir, tracker)
    fault(process, run_dir, tracker)
    code, said = process.ended()
    assert code == 0, said
    result = json.loads((run_dir / "result.json").read_bytes())
    assert result["weights_sha256"] == whole["weights_sha256"]
    assert without_times(rows(run_dir)) == without_times(rows(whole.run_dir))
    assert f"python -m mbtrain.trackers {run_dir} {tracker}" in said, said
    assert "Traceback" not in said, said
    if fault is not take_folder_away:
        assert result["trackers"][tracker]["status"] != "complete"
    else:
        (run_dir / "trackers").unlink()
    again = [sys.executable, "-m", "mbtrain.trackers", str(run_dir), tracker]
    subprocess.run(again, check=True, capture_output=True, env=os.environ | {"WANDB_MODE": "offline"})
    state = json.loads((run_dir / "result.json").read_bytes())["trackers"][tracker]
    assert state["status"] == "complete" and state["rows"] == result["iterations"]
    if tracker == "csv":
        lines = (run_dir / "trackers" / "iterations.csv").read_text().splitlines()
        assert len(lines) == 1 + result["iterations"]
