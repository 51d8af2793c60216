"""Trackers' processes killed while they read: the run is the same, and the tracker is completed afterwards."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from faults.runs import ended, fingerprint, fork
from faults.settings import COMMON

WORDS = [*COMMON, "model.hidden=[16]", "duration=30ep"]


def survived(num_tries: int, folder: Path, *, tell: Callable[[str], None]) -> tuple[int, int]:
    """(tries, survived), with the tracker that needs no package of another's."""
    draw, good = random.Random(4), 0
    assert ended(fork(WORDS, folder / "untracked")) == 0
    expected = fingerprint(folder / "untracked")
    for number in range(num_tries):
        run_dir = folder / f"tracked{number}"
        words = [sys.executable, "-m", "mbtrain", *(one for one in WORDS if one != "tracker=none"), "tracker=csv"]
        process = subprocess.Popen([*words, f"run_dir={run_dir}"], stderr=subprocess.DEVNULL)
        _kill_side_process(process, run_dir, delay_s=draw.uniform(0, 0.5))
        code = process.wait()
        again = [sys.executable, "-m", "mbtrain.trackers", str(run_dir), "csv"]
        subprocess.run(again, check=True, capture_output=True)
        state = json.loads((run_dir / "result.json").read_bytes())["trackers"]["csv"]
        lines = (run_dir / "trackers" / "iterations.csv").read_text().splitlines()
        is_complete = state["status"] == "complete" and len(lines) == 1 + state["rows"]
        good += code == 0 and fingerprint(run_dir) == expected and is_complete
    tell(f"killed trackers: {num_tries}, survived {good}")
    return num_tries, good


def _kill_side_process(process: "subprocess.Popen[bytes]", run_dir: Path, *, delay_s: float) -> None:
    while process.poll() is None and not (run_dir / "trackers" / "csv.json").exists():
        time.sleep(0.001)
    time.sleep(delay_s)
    listed = subprocess.run(["pgrep", "-P", str(process.pid), "-f", "mbtrain.trackers"], capture_output=True, text=True)
    for word in listed.stdout.split():
        os.kill(int(word), signal.SIGKILL)
