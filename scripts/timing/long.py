"""One very long run: CPU time and memory as its rows grow from 10^3 to 10^6, and how long report and live page take."""

import os
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from timing.cases import CASES
from timing.command import ROOT, mbtrain, spent
from timing.ours import OurLoop
from timing.pairs import Way, load

EVERY_S = 0.2
REPORT = (sys.executable, "-m", "mbtrain.analysis")
# The report, and the largest resident memory of its process, in KiB.
TOLD = """
import sys
from mbtrain.analysis.__main__ import main
assert main(sys.argv[1:2]) == 0
(peak,) = (line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM"))
open(sys.argv[2], "w").write(peak)
"""
TICKS = os.sysconf("SC_CLK_TCK")


class Sample(NamedTuple):
    """A look at the run: bytes of its log, its CPU time in seconds, its resident memory in bytes."""

    log: int
    cpu: float
    resident: int


def measured(folder: Path, way: Way, *, num_rows: int) -> dict[str, Any]:
    """The table: the run as its command line makes it, on one core, a checkpoint every epoch of 625 iterations."""
    before, run_dir = load(), folder / "long"
    way.tell(f"one run of {num_rows:,} iterations")
    loop = OurLoop(CASES["tiny32"], folder)
    command = mbtrain(*loop.finite("long", num_rows), "checkpoint.every=1ep", "tracker=none")
    samples = list(_watched(command, run_dir / "iterations.jsonl", way.core))
    way.tell("its report, and the live page")
    report, said = spent([sys.executable, "-c", TOLD, str(run_dir), str(folder / "peak")], folder), folder / "peak"
    return {
        "rows": num_rows,
        "log_bytes": (run_dir / "iterations.jsonl").stat().st_size,
        "by_rows": by_rows(samples, _row_ends(run_dir / "iterations.jsonl")),
        "report": {
            "wall_s": round(report.wall, 1),
            "cpu_s": round(report.cpu, 1),
            "peak_mb": _mb(1024 * int(said.read_text())),
        },
        "live": _live(run_dir),
        "load": {"before": before, "after": load()},
    }


def by_rows(samples: Sequence[Sample], ends: Sequence[int]) -> list[dict[str, float]]:
    """At each power of ten from 10^3: rows, resident memory, and CPU microseconds an iteration since the one before."""
    found, last = [], None
    logs, cpus = [one.log for one in samples], [one.cpu for one in samples]
    edges = [edge for edge in (10**power for power in range(2, 9)) if edge < len(ends)]
    for edge in (*edges, len(ends)):
        at = float(np.interp(ends[edge - 1], logs, cpus))
        place = min(int(np.searchsorted(logs, ends[edge - 1])), len(samples) - 1)
        if last is not None:
            us = 1e6 * (at - last[1]) / (edge - last[0])
            found.append({"rows": edge, "us": round(us, 1), "resident_mb": _mb(samples[place].resident)})
        last = edge, at
    return found


def _watched(command: Sequence[str], log: Path, core: int | None) -> Iterator[Sample]:
    """Looks at the run until it is over."""
    nowhere = subprocess.DEVNULL
    process = subprocess.Popen(command, env=os.environ | {"PYTHONPATH": str(ROOT)}, stdout=nowhere, stderr=nowhere)
    if core is not None:
        os.sched_setaffinity(process.pid, {core})
    while process.poll() is None:
        if log.exists():
            fields = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
            # Of proc(5): utime and stime are fields 14 and 15, rss is field 24; the state after the name is field 3.
            cpu = (int(fields[11]) + int(fields[12])) / TICKS
            if fields[0] != "Z":
                yield Sample(log.stat().st_size, cpu, int(fields[21]) * os.sysconf("SC_PAGE_SIZE"))
        time.sleep(EVERY_S)
    if process.returncode != 0:
        raise RuntimeError(f"the run ended with exit code {process.returncode}")


def _row_ends(log: Path) -> list[int]:
    """Where each row of the log ends, in bytes."""
    with log.open("rb") as file:
        return np.cumsum([len(line) for line in file]).tolist()


def _live(run_dir: Path) -> dict[str, float]:
    """Seconds from the command to the address of `--live`, and of a page then."""
    started = time.perf_counter()
    command = [*REPORT, "--live", "--port", "0", str(run_dir)]
    with subprocess.Popen(
        command, env=os.environ | {"PYTHONPATH": str(ROOT)}, stdout=subprocess.PIPE, text=True
    ) as one:
        try:
            assert one.stdout is not None
            address = one.stdout.readline().split()[0]
            opened, asked = time.perf_counter() - started, time.perf_counter()
            with urllib.request.urlopen(address) as answer:
                size = len(answer.read())
            return {
                "open_s": round(opened, 1),
                "page_s": round(time.perf_counter() - asked, 2),
                "page_mb": round(size / 1e6, 2),
            }
        finally:
            one.terminate()


def _mb(size: int) -> int:
    return round(size / 1e6)
