"""Sweeps in processes forked from this one, which has everything imported; losses of the user's own that go wrong."""

import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import orjson
import pytest

from mbtrain.__main__ import exit_code
from tests.forked import Forked

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


@pytest.fixture(autouse=True)
def report(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """In place of the module that writes a sweep's report, which imports for seconds what pictures need."""
    module = ModuleType("mbtrain.analysis.report")
    monkeypatch.setattr(module, "write_report", lambda folders: folders[0] / "report.html", raising=False)
    monkeypatch.setitem(sys.modules, module.__name__, module)
    return module


@pytest.fixture
def start_command(forked: Callable[..., Forked]) -> Callable[..., Forked]:
    """Start a command; what is left of it is killed at the end."""
    own = ["--config-dir", "conf", "trust=my_losses", *QUIET]
    return lambda *arguments: forked(lambda: exit_code([*own, *arguments]))


@pytest.fixture
def start(start_command: Callable[..., Forked]) -> Callable[..., Forked]:
    """Start a sweep in s/."""
    return lambda *arguments: start_command("-m", "sweep_dir=s", *arguments)


@pytest.fixture
def command(start_command: Callable[..., Forked]) -> Callable[..., tuple[int, str]]:
    """Run a command to its end: exit code and what it said."""

    def ran(*arguments: str) -> tuple[int, str]:
        return start_command(*arguments).ended()

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
