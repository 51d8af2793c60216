"""Signals beyond the first: a second Ctrl-C, one during the final evaluation, SLURM's; and errors."""

import os
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mbtrain.training.checkpoint import newest
from mbtrain.training.module import MiniBatchModule
from mbtrain.training.requeue import requeue
from tests.conftest import QUIET, rows, without_times

LONG = ["duration=2000ep", "batch.size=16", "checkpoint.every=50it"]


def start(run_dir: Path, *overrides: str, **environ: str) -> "subprocess.Popen[str]":
    command = [sys.executable, "-m", "mbtrain", *QUIET, *overrides, f"run_dir={run_dir}"]
    return subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=os.environ | environ)


def wait_for(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def ended(process: "subprocess.Popen[str]") -> tuple[int, str]:
    _, err = process.communicate(timeout=60)
    return process.returncode, err


@pytest.mark.slow
def test_second_interrupt_ends_at_once(tmp_path: Path) -> None:
    # A disk that takes for ever: the first Ctrl-C would wait for it.
    (tmp_path / "slow.py").write_text(
        "import time, sys\nfrom mbtrain.training import checkpoint\n"
        "checkpoint.write_sealed = lambda *_: time.sleep(100)\n"
        "from mbtrain.__main__ import main\nmain()\n"
    )
    run_dir = tmp_path / "run"
    process = subprocess.Popen([sys.executable, tmp_path / "slow.py", *QUIET, *LONG, f"run_dir={run_dir}"])
    wait_for(lambda: (run_dir / "iterations.jsonl").exists() and (run_dir / "iterations.jsonl").stat().st_size)
    process.send_signal(signal.SIGINT)
    time.sleep(0.5)
    assert process.poll() is None
    process.send_signal(signal.SIGINT)
    assert process.wait(10) == -signal.SIGINT


@pytest.mark.slow
def test_signal_in_the_final_evaluation_is_heeded_and_the_run_then_ends_the_same(
    train: Callable[..., Any], tmp_path: Path
) -> None:
    (tmp_path / "signalled.py").write_text(
        "import os, signal\nfrom mbtrain import outcome\n"
        "heeding = outcome._heeding\n"
        "def early(batches, signals):\n    os.kill(os.getpid(), signal.SIGTERM)\n    return heeding(batches, signals)\n"
        "outcome._heeding = early\n"
        "from mbtrain.__main__ import main\nmain()\n"
    )
    command = [*QUIET, "duration=1ep", f"run_dir={tmp_path}/run"]
    assert subprocess.run([sys.executable, tmp_path / "signalled.py", *command]).returncode == 128 + signal.SIGTERM
    assert (tmp_path / "run" / "status.json").read_text().count("interrupted")
    result, whole = train("duration=1ep", f"run_dir={tmp_path}/run"), train("duration=1ep")
    assert result["weights_sha256"] == whole["weights_sha256"] and result["test/loss"] == whole["test/loss"]
    assert without_times(rows(result.run_dir)) == without_times(rows(whole.run_dir))


@pytest.fixture
def scontrol(tmp_path: Path) -> Path:
    """A command `scontrol` that notes what it is asked."""
    folder = tmp_path / "bin"
    folder.mkdir()
    (folder / "scontrol").write_text(f'#!/bin/sh\necho "$@" >> {tmp_path}/asked\n')
    (folder / "scontrol").chmod(0o755 | stat.S_IXUSR)
    return tmp_path / "asked"


SLURM = {
    "SLURM_JOB_ID": "4242",
    "SLURM_JOB_NAME": "train",
    "SLURM_NTASKS": "1",
    "SLURM_PROCID": "0",
    "SLURM_LOCALID": "0",
    "SLURM_NODEID": "0",
}


@pytest.mark.slow
@pytest.mark.parametrize(("number", "is_asked"), [(signal.SIGUSR1, True), (signal.SIGTERM, False)])
def test_slurm_s_signal_requeues_the_job_after_the_checkpoint(
    tmp_path: Path, scontrol: Path, number: signal.Signals, is_asked: bool
) -> None:
    run_dir, path = tmp_path / "run", f"{scontrol.parent}/bin:{os.environ['PATH']}"
    process = start(run_dir, *LONG, PATH=path, **SLURM)
    wait_for(lambda: (run_dir / "iterations.jsonl").exists() and (run_dir / "iterations.jsonl").stat().st_size)
    process.send_signal(number)
    code, err = ended(process)
    assert code == 128 + number and newest(run_dir / "checkpoints")
    assert scontrol.exists() == is_asked == ("SLURM job 4242 is requeued" in err)
    assert not is_asked or scontrol.read_text() == "requeue 4242\n"


def test_job_of_an_array_is_requeued_by_its_own_number(scontrol: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", f"{scontrol.parent}/bin:{os.environ['PATH']}")
    for name, value in {"SLURM_ARRAY_JOB_ID": "7", "SLURM_ARRAY_TASK_ID": "3", "SLURM_JOB_ID": "9"}.items():
        monkeypatch.setenv(name, value)
    assert requeue("runs/mine", is_resumed_by_name=False) == "SLURM job 7_3 is requeued"
    assert scontrol.read_text() == "requeue 7_3\n"


def test_run_whose_folder_bears_the_time_is_not_requeued(scontrol: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", f"{scontrol.parent}/bin:{os.environ['PATH']}")
    monkeypatch.setenv("SLURM_JOB_ID", "9")
    timed = "runs/2026-01-31_12-00-00_digits_mlp"
    assert requeue(timed, is_resumed_by_name=False).startswith("not requeued: run_dir bears the time")
    assert not scontrol.exists()
    assert requeue(timed, is_resumed_by_name=True) == "SLURM job 9 is requeued"


def test_a_machine_that_has_slurm_is_no_reason_to_warn(
    train: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "srun").write_text("#!/bin/sh\n")
    (tmp_path / "srun").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    # Lightning's warning would be an error here.
    assert train("duration=1it")["iterations"] == 1


class Broken(Exception):
    """An error in somebody's code."""


@pytest.mark.parametrize("model", ["mlp", "cnn"])
@pytest.mark.parametrize("place", ["between", "within"])
def test_error_leaves_a_checkpoint_where_the_state_is_still_exact(
    train: Callable[..., Any], tmp_path: Path, model: str, place: str
) -> None:
    overrides = ["duration=2ep", "batch.size=100", "checkpoint.every=null", f"model={model}", "optimizer.lr=0.01"]
    step = MiniBatchModule.training_step

    def broken(self: Any, mini_batch: Any, batch_idx: int) -> None:
        if mini_batch.iteration.index == 9:
            if place == "within":
                self.parts.model.register_forward_hook(_break)
            else:
                raise Broken
        step(self, mini_batch, batch_idx)

    with pytest.MonkeyPatch.context() as patch, pytest.raises(Broken):
        patch.setattr(MiniBatchModule, "training_step", broken)
        train(*overrides, f"run_dir={tmp_path}/run")
    saved = [path.name for path in newest(tmp_path / "run" / "checkpoints")]
    # A forward pass has moved the CNN's running statistics, which a resume would move again.
    assert saved == ([] if (model, place) == ("cnn", "within") else ["iteration-000000000009.ckpt"])
    assert [row["iteration"] for row in rows(tmp_path / "run")] == list(range(1, 10))
    result, whole = train(*overrides, f"run_dir={tmp_path}/run"), train(*overrides)
    assert result["weights_sha256"] == whole["weights_sha256"]
    assert without_times(rows(result.run_dir)) == without_times(rows(whole.run_dir))


def _break(*_: object) -> None:
    raise Broken
