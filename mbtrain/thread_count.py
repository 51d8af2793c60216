"""Settles `trainer.threads=auto` before the first iteration: whole updates of the true model, at 1, 2, 4 … threads."""

import hashlib
import os
import platform
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import orjson
import torch

from mbtrain.assembly import Assembly
from mbtrain.log import files
from mbtrain.micro_size import dry_run
from mbtrain.plan.batch import MicroBatch
from mbtrain.training.dry_run import DryRun
from mbtrain.training.place import num_cores, threads
from mbtrain.training.stopwatch import medians

Tell = Callable[[str], None]
# What the rounds may take and how many of them are enough; in a round each candidate has so many seconds of updates, so
# that waking its threads is no part of what is measured.
SECONDS, ROUNDS, TURN_S = 0.9, 25, 0.01
# More threads are taken only where they are so much faster: what is within the noise is not worth a core.
WORTH = 0.95


def with_threads(assembly: Assembly, chosen: Mapping[str, Any], tell: Tell, *, cores: int | None = None) -> Assembly:
    """The assembly with the number of threads that is fastest here, which `chosen` holds where the run has begun.

    It is measured once for a machine and a shape, and kept in the user's cache folder. Weights, buffers, optimizer and
    generators are bit for bit what they were.
    """
    if assembly.config["trainer"]["threads"] != "auto" or "threads" in chosen:
        return assembly
    candidates = candidates_for(num_cores() if cores is None else cores)
    if assembly.device.type != "cpu" or len(candidates) == 1:
        return assembly
    size = max(assembly.plan.sizes)
    cut = assembly.cut(size)
    kept = _kept(assembly, cut, candidates)
    if kept.is_file():
        found, how = int(orjson.loads(kept.read_bytes())["threads"]), "as measured here before"
    else:
        measured = _medians(dry_run(assembly, size), cut, candidates)
        found, how = best(measured), ", ".join(f"{one}: {1e3 * seconds:.2f} ms" for one, seconds in measured.items())
        kept.parent.mkdir(parents=True, exist_ok=True)
        files.replace(kept, orjson.dumps({"threads": found, "seconds": {str(n): s for n, s in measured.items()}}))
    tell(f"trainer.threads=auto: {found} ({how})")
    return replace(assembly, threads=found)


def candidates_for(cores: int) -> list[int]:
    """Numbers of threads that are tried: doubled up to all cores.

    >>> candidates_for(1), candidates_for(6)
    ([1], [1, 2, 4, 6])
    """
    return [*(2**power for power in range(cores.bit_length()) if 2**power < cores), cores]


def best(seconds: Mapping[int, float]) -> int:
    """The fastest, fewer threads before more where more are hardly faster.

    >>> best({1: 1.0, 2: 0.96, 4: 0.5, 8: 0.495})
    4
    """
    found = min(seconds)
    for number in sorted(seconds):
        if seconds[number] < WORTH * seconds[found]:
            found = number
    return found


def _medians(run: DryRun, cut: Sequence[MicroBatch], candidates: Sequence[int]) -> dict[int, float]:
    """Seconds of an update at each number of threads."""

    def seconds(number: int) -> float:
        taken: list[float] = []
        with threads(number):
            while sum(taken) < TURN_S:
                # What does not fit in memory is for the run to say.
                one = run.seconds(cut)
                taken.append(float("inf") if one is None else one)
        return sum(taken) / len(taken)

    with run.taken_back():
        return medians({number: partial(seconds, number) for number in candidates}, seconds=SECONDS, rounds=ROUNDS)


def _kept(assembly: Assembly, cut: Sequence[MicroBatch], candidates: Sequence[int]) -> Path:
    """The file that holds what was measured for this machine, torch, model and mini-batch."""
    shape = (
        platform.node(), platform.machine(), list(candidates), torch.__version__, str(assembly.model),
        type(assembly.optimizer).__name__, assembly.config["trainer"]["precision"], assembly.data.input_shape,
        [micro.size for micro in cut],
    )  # fmt: skip
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    name = hashlib.sha256(repr(shape).encode()).hexdigest()[:16]
    return Path(home, "mbtrain", "threads", f"{name}.json")
