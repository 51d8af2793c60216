"""SIGKILL: at random instants, at the very start, while a checkpoint is being written, at the very end."""

import os
import random
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from unittest.mock import patch

from faults.runs import ended, fingerprint, fork, kill_when
from faults.settings import COMMON, covering, overrides
from mbtrain.training.checkpoint import newest
from mbtrain.training.sealed import is_sealed

KILLS_A_RUN = 5
MOMENTS = ("random", "random", "start", "save", "end")


def survived(num_kills: int, folder: Path, *, tell: Callable[[str], None]) -> tuple[int, int]:
    """(kills, those after which the run came out the same): runs of every setting, killed and begun again."""
    settings, draw = covering(), random.Random(0)
    wholes: dict[int, tuple[dict[str, str], float]] = {}
    tries = good = num_runs = 0
    while tries < num_kills:
        number = num_runs % len(settings)
        words = overrides(settings[number])
        if number not in wholes:
            wholes[number] = _whole(words, folder / f"whole{number}")
        expected, seconds = wholes[number]
        num_runs += 1
        run_dir = folder / f"cut{num_runs}"
        done = _killed(words, run_dir, min(KILLS_A_RUN, num_kills - tries), seconds, draw)
        is_same = ended(fork(words, run_dir)) == 0 and fingerprint(run_dir) == expected
        tries, good = tries + done, good + done * is_same
        tell(f"kills: {tries} of {num_kills}, survived {good}; setting {number + 1} of {len(settings)}")
        if is_same:
            shutil.rmtree(run_dir)
        else:
            tell(f"  NOT THE SAME: {run_dir} with {' '.join(words)}")
    return tries, good


def _whole(words: list[str], run_dir: Path) -> tuple[dict[str, str], float]:
    """Fingerprint and seconds of the run that nobody kills."""
    started = time.monotonic()
    assert ended(fork(words, run_dir)) == 0, f"{words} does not run"
    return fingerprint(run_dir), time.monotonic() - started


def _killed(words: list[str], run_dir: Path, num_kills: int, seconds: float, draw: random.Random) -> int:
    """Kill the run that many times, or fewer where it ends first."""
    done = 0
    while done < num_kills:
        child, moment = fork(words, run_dir), draw.choice(MOMENTS)
        if moment == "random":
            was_killed = kill_when(child, lambda: True, delay_s=draw.uniform(0, seconds))
        elif moment == "start":
            was_killed = kill_when(child, run_dir.exists, delay_s=draw.uniform(0, 0.02))
        elif moment == "save":
            was_killed = kill_when(child, lambda: _is_saving(run_dir), delay_s=draw.uniform(0, 0.003))
        else:
            was_killed = kill_when(
                child, (run_dir / "checkpoints" / "final.ckpt").exists, delay_s=draw.uniform(0, 0.01)
            )
        if not was_killed:
            break  # the run ended first
        done += 1
    return done


def _is_saving(run_dir: Path) -> bool:
    return any(run_dir.glob("checkpoints/.iteration-*.tmp"))


def saves_survived(num_kills: int, folder: Path, *, tell: Callable[[str], None]) -> tuple[int, int]:
    """(kills during a save, those that left every file whole), $TMPDIR being another filesystem where there is one."""
    words = [*COMMON, "model.hidden=[1500]", "checkpoint.every=1it"]
    good, draw, run_dir = 0, random.Random(1), folder / "saves"
    with patch.dict(os.environ, {"TMPDIR": "/dev/shm"} if Path("/dev/shm").is_dir() else {}):
        for number in range(1, num_kills + 1):
            while not kill_when(fork(words, run_dir), lambda: _is_saving(run_dir), delay_s=draw.uniform(0, 0.01)):
                shutil.rmtree(run_dir)
            good += all(is_sealed(path) for path in newest(run_dir / "checkpoints"))
            if number % 20 == 0:
                tell(f"kills during a save: {number} of {num_kills}, all files whole {good}")
    return num_kills, good
