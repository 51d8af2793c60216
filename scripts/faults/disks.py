"""Disks that fill up under a run at different places: nothing damaged, and the run ends the same once there is room."""

import random
import subprocess
from collections.abc import Callable
from pathlib import Path

from faults.runs import ended, fingerprint, fork
from faults.settings import COMMON
from mbtrain.training.checkpoint import newest
from mbtrain.training.sealed import is_sealed

WORDS = [*COMMON, "model.hidden=[16]", "duration=20ep"]


def survived(num_tries: int, folder: Path, *, tell: Callable[[str], None]) -> tuple[int, int]:
    """(tries, survived); none where filesystems cannot be mounted."""
    disk, draw, good, done = folder / "disk", random.Random(3), 0, 0
    disk.mkdir()
    whole = folder / "roomy"
    assert ended(fork(WORDS, whole)) == 0
    expected = fingerprint(whole)
    while done < num_tries:
        if _mount(disk, f"size={draw.randrange(24, 160)}k"):
            tell("full disks: filesystems cannot be mounted here, left out")
            return 0, 0
        try:
            has_failed = ended(fork(WORDS, disk / "run")) == 1
            is_whole = all(is_sealed(path) for path in newest(disk / "run" / "checkpoints"))
            _mount(disk, "remount,size=100m")
            is_same = ended(fork(WORDS, disk / "run")) == 0 and fingerprint(disk / "run") == expected
        finally:
            subprocess.run(["umount", str(disk)], check=True)
        done, good = done + has_failed, good + (has_failed and is_whole and is_same)
    tell(f"full disks: {done}, survived {good}")
    return done, good


def _mount(folder: Path, options: str) -> int:
    return subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)], capture_output=True).returncode
