"""The first proof of exact resume: SIGKILL at random instants, the same command again, the same run.

Most runs here are forked from this process, which has everything imported; one test starts real commands.
"""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

import mbtrain
from mbtrain.training.signals import Interrupted
from tests.conftest import QUIET, rows, without_times
from tests.forked import Forked

LENGTH = [
    "duration=10ep",
    "batch.size=16",
    "model.dropout=0.1",
    "checkpoint.every=13it",
    "validate.every=30it",
    "ema=1ep",
]
# Four of the five micro-batches of 3 samples in one graph, the rest in another; the tail of 14 samples runs eagerly.
BY_PARTS = ["trainer.engine=compiled", "batch.micro_size=3"]


@pytest.fixture
def fork(forked: Callable[..., Forked]) -> Callable[..., int]:
    """Start a run in a forked process."""

    def start(*overrides: str) -> int:
        def act() -> int:
            try:
                mbtrain.run([*QUIET, *LENGTH, *overrides])
            except Interrupted as error:
                return error.exit_code
            return 0

        return forked(act).pid

    return start


def is_alive(child: int) -> bool:
    """Whether it still runs; it is not waited for."""
    return os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None


def wait_for_growth(child: int, log: Path) -> None:
    """Wait until the run has written to its log since now, or has ended."""
    before = log.stat().st_mtime_ns if log.exists() else None
    while is_alive(child) and (not log.exists() or log.stat().st_mtime_ns == before or not log.stat().st_size):
        time.sleep(0.005)


def exit_code(child: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def check_same(whole: Path, cut: Path) -> None:
    results = [json.loads((run / "result.json").read_text()) for run in (whole, cut)]
    assert results[0]["weights_sha256"] == results[1]["weights_sha256"]
    for name in ("iterations", "epochs"):
        assert without_times(rows(whole, name)) == without_times(rows(cut, name))


def check_kills(
    fork: Callable[..., int], choice: list[str], whole: Path, cut: Path, *, seed: int, num_kills: int = 6
) -> None:
    """A run that is killed so often, at random instants, is the run that nobody killed."""
    draw, num_killed = random.Random(seed), 0
    while num_killed < num_kills:
        child = fork(*choice, f"run_dir={cut}")
        wait_for_growth(child, cut / "iterations.jsonl")
        time.sleep(draw.uniform(0, 0.05))
        if not is_alive(child):
            break
        os.kill(child, signal.SIGKILL)
        assert exit_code(child) == -signal.SIGKILL
        num_killed += 1
    assert exit_code(fork(*choice, f"run_dir={cut}")) == 0
    assert num_killed >= min(3, num_kills), "the run was over before it could be killed"
    check_same(whole, cut)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the run that nobody killed."""
    return mbtrain.run([*QUIET, *LENGTH, f"run_dir={tmp_path_factory.mktemp('whole')}"]).run_dir


def test_six_kills_at_random_instants_leave_the_run_as_it_would_have_been(
    fork: Callable[..., int], whole: Path, tmp_path: Path
) -> None:
    check_kills(fork, [], whole, tmp_path / "cut", seed=1)


def test_kills_under_the_stock_loop_leave_the_run_as_it_would_have_been(
    fork: Callable[..., int], whole: Path, tmp_path: Path
) -> None:
    check_kills(fork, ["trainer.loop=stock"], whole, tmp_path / "cut", seed=2, num_kills=3)


@pytest.mark.slow
@pytest.mark.skipif(shutil.which(os.environ.get("CXX", "g++")) is None, reason="no C++ compiler")
@pytest.mark.parametrize("loop", ["lean", "stock"])
def test_kills_under_the_compiled_engine_leave_the_run_as_it_would_have_been(
    fork: Callable[..., int], tmp_path: Path, loop: str
) -> None:
    choice, whole = [*BY_PARTS, f"trainer.loop={loop}"], tmp_path / "whole"
    assert exit_code(fork(*choice, f"run_dir={whole}")) == 0
    check_kills(fork, choice, whole, tmp_path / "cut", seed=3, num_kills=3)


@pytest.mark.slow
def test_command_goes_on_in_a_new_process_after_a_kill(fork: Callable[..., int], whole: Path, tmp_path: Path) -> None:
    cut = tmp_path / "cut"
    child = fork(f"run_dir={cut}")
    while not list((cut / "checkpoints").glob("iteration-*")):
        time.sleep(0.005)
    os.kill(child, signal.SIGKILL)
    assert exit_code(child) == -signal.SIGKILL
    command = [sys.executable, "-m", "mbtrain", *QUIET, *LENGTH, f"run_dir={cut}"]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    assert "going on after iteration" in done.stderr
    check_same(whole, cut)


@pytest.mark.parametrize(
    ("number", "loop"),
    [(one, "lean") for one in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGHUP)]
    + [(signal.SIGTERM, "stock")],
)
def test_signal_finishes_the_iteration_saves_and_gives_its_exit_code(
    fork: Callable[..., int], tmp_path: Path, number: signal.Signals, loop: str
) -> None:
    child = fork("duration=2000ep", f"trainer.loop={loop}", f"run_dir={tmp_path}")
    wait_for_growth(child, tmp_path / "iterations.jsonl")
    os.kill(child, number)
    assert exit_code(child) == 128 + number
    assert json.loads((tmp_path / "status.json").read_text())["status"] == "interrupted"
    newest = sorted((tmp_path / "checkpoints").glob("iteration-*.ckpt"))[-1]
    assert int(newest.stem.split("-")[1]) == len(rows(tmp_path))


def test_second_process_in_a_folder_is_refused(fork: Callable[..., int], tmp_path: Path) -> None:
    overrides = ["duration=2000ep", f"run_dir={tmp_path}"]
    child = fork(*overrides)
    wait_for_growth(child, tmp_path / "iterations.jsonl")
    with pytest.raises(mbtrain.Refused, match="another process is training there"):
        mbtrain.run([*QUIET, *LENGTH, *overrides])
    assert is_alive(child)


def test_console_is_quiet_where_asked(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    mbtrain.run([*QUIET, "duration=1it", f"run_dir={tmp_path}/run"])
    captured = capsys.readouterr()
    assert captured.out == captured.err == ""
