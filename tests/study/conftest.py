"""Sweeps in processes forked from this one, which has everything imported; losses of the user's own that go wrong."""

import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import orjson
import pytest

from mbtrain import one_run  # noqa: F401  (imported before the forks)
from mbtrain.__main__ import exit_code

QUIET = ["tracker=none", "trainer.threads=1", "trainer.accelerator=cpu"]

LOSSES = """
import os, signal, sys, time
from pathlib import Path
from torch.nn.functional import cross_entropy

def good(output, target):
    return cross_entropy(output, target, reduction="none")

def fine(output, target):
    return good(output, target)

def diverges(output, target):
    return good(output, target) * float("nan")

def slow(output, target):
    time.sleep(0.002)
    return good(output, target)

def bad(act):
    def loss(output, target):
        if output.requires_grad and not Path("mended").exists():
            act()
        return good(output, target)
    loss.__module__ = __name__
    return loss

def fail():
    raise RuntimeError("no luck\\nand more")

raises = bad(fail)
exits, killed = bad(lambda: sys.exit(7)), bad(lambda: os.kill(os.getpid(), signal.SIGKILL))
leaves, stuck = bad(lambda: os._exit(0)), bad(lambda: time.sleep(60))
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with my_losses.py and a choice of each in conf/loss."""
    (tmp_path / "my_losses.py").write_text(LOSSES)
    (tmp_path / "conf" / "loss").mkdir(parents=True)
    for name in ("good", "fine", "slow", "raises", "diverges", "exits", "killed", "leaves", "stuck"):
        (tmp_path / "conf" / "loss" / f"{name}.yaml").write_text(f"_target_: my_losses.{name}\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "my_losses", raising=False)
    return tmp_path


class Process:
    """A command line of mbtrain in a forked process, leader of its group."""

    def __init__(self, arguments: list[str], said: Path) -> None:
        self._said = said
        self.pid = os.fork()
        if self.pid == 0:
            code = 70
            try:
                os.setpgid(0, 0)
                file = os.open(said, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
                os.dup2(file, 1)
                os.dup2(file, 2)
                # Those of the tests' own capture do not go there.
                sys.stdout, sys.stderr = os.fdopen(1, "w", buffering=1), os.fdopen(2, "w", buffering=1)
                code = exit_code(["--config-dir", "conf", "trust=my_losses", *QUIET, *arguments])
            finally:
                os._exit(code)

    @property
    def said(self) -> str:
        """All that it has said so far."""
        return self._said.read_text()

    def is_alive(self) -> bool:
        return os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None

    def wait_for(self, *files: Path) -> None:
        """Until there is something in each of the files."""
        deadline = time.monotonic() + 60
        while not all(one.exists() and one.stat().st_size for one in files):
            assert self.is_alive() and time.monotonic() < deadline, self.said
            time.sleep(0.005)

    def exit_code(self) -> int:
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])

    def kill(self) -> None:
        """The whole sweep at once, jobs and all."""
        os.killpg(self.pid, signal.SIGKILL)
        self.exit_code()


@pytest.fixture
def start_command(tmp_path: Path) -> Iterator[Callable[..., Process]]:
    """Start a command; what is left of it is killed at the end."""
    processes: list[Process] = []

    def started(*arguments: str) -> Process:
        processes.append(Process([*arguments], tmp_path / f"said-{len(processes)}.txt"))
        return processes[-1]

    yield started
    for process in processes:
        with suppress(ProcessLookupError, ChildProcessError):
            process.kill()


@pytest.fixture
def start(start_command: Callable[..., Process]) -> Callable[..., Process]:
    """Start a sweep in s/."""
    return lambda *arguments: start_command("-m", "sweep_dir=s", *arguments)


@pytest.fixture
def command(start_command: Callable[..., Process]) -> Callable[..., tuple[int, str]]:
    """Run a command to its end: exit code and what it said."""

    def ran(*arguments: str) -> tuple[int, str]:
        process = start_command(*arguments)
        return process.exit_code(), process.said

    return ran


@pytest.fixture
def sweep(command: Callable[..., tuple[int, str]]) -> Callable[..., tuple[int, str]]:
    """Run a sweep in s/ to its end: exit code and what it said."""
    return lambda *arguments: command("-m", "sweep_dir=s", *arguments)


def at(name: str) -> Path:
    """The folder of a job in s/, by those of its overrides that come before QUIET's."""
    return Path("s", f"{name},trainer.accelerator=cpu,trainer.threads=1")


def status(job: str) -> dict[str, Any]:
    """The status.json of the job in s/ whose folder has `job` in its name."""
    (file,) = [one for one in Path("s").glob("*/status.json") if job in one.parent.name]
    return orjson.loads(file.read_bytes())
