"""CPU seconds of command lines: help, the config, a refusal, the first update, one more job of a sweep."""

import sys
from pathlib import Path
from typing import Any

from timing.command import ONE_ITERATION, Spent, mbtrain, spent
from timing.pairs import Way, load, quartiles

REFERENCE = "python -c 'import torch, pytorch_lightning'"
FIRST_UPDATE = "a run of one iteration, digits"
JOBS = (2, 8)
GOALS = {"mbtrain --help": 0.6, "mbtrain --cfg job": 0.6, "a refused config": 0.6}
FIRST_UPDATE_GOAL, JOB_GOAL = 1.25, 0.1


def measured(folder: Path, way: Way) -> dict[str, Any]:
    """The table: medians over rounds in which each command is run once."""
    before, times = load(), {name: [] for name in (*commands(folder, 0), "sweep")}
    for index in range(way.rounds):
        for name, (command, code) in commands(folder, index).items():
            times[name].append(spent(command, folder, code=code))
            way.tell(f"  round {index + 1} of {way.rounds}, {name}: {times[name][-1].cpu:.2f} s of CPU time")
        times["sweep"].append(_further_job(folder, index))
    cpu = {name: [one.cpu for one in found] for name, found in times.items()}
    firsts = [one / other for one, other in zip(cpu[FIRST_UPDATE], cpu[REFERENCE], strict=True)]
    return {
        "rounds": way.rounds,
        "load": {"before": before, "after": load()},
        "cpu_s": {name: [round(one, 4) for one in quartiles(found)] for name, found in cpu.items()},
        "first_update": [round(one, 3) for one in quartiles(firsts)],
    }


def commands(folder: Path, index: int) -> dict[str, tuple[list[str], int]]:
    """(command, exit code) by name."""
    return {
        REFERENCE: ([sys.executable, "-c", "import torch, pytorch_lightning"], 0),
        "mbtrain --help": (mbtrain("--help"), 0),
        "mbtrain --cfg job": (mbtrain("--cfg", "job"), 0),
        "a refused config": (mbtrain("batch.size=-3"), 2),
        FIRST_UPDATE: (mbtrain(*ONE_ITERATION, f"run_dir={folder / f'first-{index}'}"), 0),
    }


def _further_job(folder: Path, index: int) -> Spent:
    """One more job of a sweep: the difference of two sweeps, over the jobs that one has more."""
    few, many = (
        spent(
            mbtrain("-m", f"seed=range({jobs})", *ONE_ITERATION, f"sweep_dir={folder / f'sweep-{index}-{jobs}'}"),
            folder,
        )
        for jobs in JOBS
    )
    more = JOBS[1] - JOBS[0]
    return Spent((many.wall - few.wall) / more, (many.cpu - few.cpu) / more)
