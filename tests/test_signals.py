"""Signals beyond the first: a second Ctrl-C, one during the final evaluation, SLURM's; and errors."""

import fcntl
import json
import os
import pty
import signal
import stat
import subprocess
import sys
import termios
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mbtrain import outcome
from mbtrain.__main__ import exit_code
from mbtrain.training import checkpoint
from mbtrain.training.checkpoint import newest
from mbtrain.training.module import MiniBatchModule
from mbtrain.training.requeue import requeue
from mbtrain.training.signals import Signals
from tests.conftest import QUIET, rows, without_times
from tests.forked import Forked

LONG = ["duration=2000ep", "batch.size=16", "checkpoint.every=50it"]


def run(run_dir: Path, *overrides: str) -> Callable[[], int]:
    """The command line of a run."""
    return lambda: exit_code([*QUIET, *overrides, f"run_dir={run_dir}"])


def test_second_interrupt_ends_at_once(forked: Callable[..., Forked], tmp_path: Path) -> None:
    def on_a_slow_disk() -> int:
        # It takes for ever: the first Ctrl-C would wait for it.
        checkpoint.write_sealed = lambda *_: time.sleep(100)
        return run(tmp_path, *LONG)()

    process = forked(on_a_slow_disk)
    process.wait_for(tmp_path / "iterations.jsonl")
    process.signal(signal.SIGINT)
    time.sleep(0.5)
    assert process.is_alive()
    process.signal(signal.SIGINT)
    assert process.exit_code() == -signal.SIGINT


def test_signal_in_the_final_evaluation_is_heeded_and_the_run_then_ends_the_same(
    forked: Callable[..., Forked], train: Callable[..., Any], tmp_path: Path
) -> None:
    def signalled() -> int:
        heeding = outcome._heeding

        def early(batches: Any, signals: Any) -> Any:
            os.kill(os.getpid(), signal.SIGTERM)
            return heeding(batches, signals)

        outcome._heeding = early
        return run(tmp_path / "run", "duration=1ep")()

    assert forked(signalled).exit_code() == 128 + signal.SIGTERM
    assert (tmp_path / "run" / "status.json").read_text().count("interrupted")
    result, whole = train("duration=1ep", f"run_dir={tmp_path}/run"), train("duration=1ep")
    assert result["weights_sha256"] == whole["weights_sha256"] and result["test/loss"] == whole["test/loss"]
    assert without_times(rows(result.run_dir)) == without_times(rows(whole.run_dir))


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="a terminal's ways")
def test_a_terminal_that_is_closed_ends_a_run_as_any_signal_does(tmp_path: Path) -> None:
    terminal, inner = pty.openpty()
    command = [sys.executable, "-m", "mbtrain", *QUIET, *LONG, "trainer.progress=true", f"run_dir={tmp_path}/run"]
    process = subprocess.Popen(
        command,
        stdin=inner,
        stdout=inner,
        stderr=inner,
        start_new_session=True,
        preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
    )
    os.close(inner)
    log, said = tmp_path / "run" / "iterations.jsonl", b""
    while not (log.exists() and log.stat().st_size) or b"epoch" not in said:
        assert process.poll() is None, said
        said += os.read(terminal, 1 << 16)
    os.close(terminal)
    assert process.wait(60) == 128 + signal.SIGHUP
    assert json.loads((tmp_path / "run" / "status.json").read_text())["status"] == "interrupted"
    assert newest(tmp_path / "run" / "checkpoints")


def test_an_answer_is_given_to_a_signal_while_something_takes_long(forked: Callable[..., Forked]) -> None:
    def signalled() -> int:
        signals = Signals()
        signals.install()
        with signals.answering("patience"):
            os.kill(os.getpid(), signal.SIGINT)
        return signals.received or 0

    assert forked(signalled).ended() == (signal.SIGINT, "patience\n")


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


@pytest.mark.parametrize(("number", "is_asked"), [(signal.SIGUSR1, True), (signal.SIGTERM, False)])
def test_slurm_s_signal_requeues_the_job_after_the_checkpoint(
    forked: Callable[..., Forked], tmp_path: Path, scontrol: Path, number: signal.Signals, is_asked: bool
) -> None:
    run_dir, path = tmp_path / "run", f"{scontrol.parent}/bin:{os.environ['PATH']}"
    process = forked(run(run_dir, *LONG), PATH=path, **SLURM)
    process.wait_for(run_dir / "iterations.jsonl")
    process.signal(number)
    code, said = process.ended()
    assert code == 128 + number and newest(run_dir / "checkpoints")
    assert scontrol.exists() == is_asked == ("SLURM job 4242 is requeued" in said)
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
