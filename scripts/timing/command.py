"""A command line in processes of its own, and what it and all that it has started took of the machine."""

import contextlib
import ctypes
import os
import resource
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
PR_SET_CHILD_SUBREAPER = 36
# A run of one iteration, with nothing besides.
ONE_ITERATION = ("duration=1it", "validate=never", "tracker=none", "trainer.progress=false", "trainer.threads=1")


class Spent(NamedTuple):
    """Seconds of the clock on the wall and of CPU time."""

    wall: float
    cpu: float


def mbtrain(*overrides: str) -> list[str]:
    """The command line of this checkout."""
    return [sys.executable, "-m", "mbtrain", *overrides]


def spent(command: Sequence[str], folder: Path, *, code: int = 0) -> Spent:
    """What `command` took until all of its processes are over; it has to end with this exit code."""
    # Processes whose parent is gone come to this one, which waits for them, so that theirs counts too.
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1)
    before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    nowhere = subprocess.DEVNULL
    found = subprocess.run(
        command, cwd=folder, env=environment, stdout=nowhere, stderr=nowhere, stdin=nowhere
    ).returncode
    wall = time.perf_counter() - started
    if found != code:
        raise RuntimeError(f"{' '.join(command)}: exit code {found}, not {code}")
    with contextlib.suppress(ChildProcessError):
        while True:
            os.wait()
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return Spent(wall, cpu)
