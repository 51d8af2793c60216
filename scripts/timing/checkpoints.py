"""What a checkpoint every 100 iterations costs: mbtrain with them against without, a small and a large model."""

import statistics
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from mbtrain.training import checkpoint, seam
from timing.cases import CASES
from timing.ours import OurLoop
from timing.pairs import Way, load, summary
from timing.span import Note, Peer

EVERY = 100
# 784-256-10 and 784-2900-2900-10, about 0.2 and 10.7 million weights, each with its momentum.
SMALL = replace(CASES["mlp256"], num_samples=6_400)
LARGE = replace(CASES["mlp256"], name="large256", network="large", num_samples=6_400)


def measured(folder: Path, way: Way, *, samples: int | None) -> dict[str, Any]:
    """The table: ratios of an iteration with a checkpoint every 100 to one without, and CPU time of a checkpoint."""
    before, rows = load(), {}
    for case in (SMALL, LARGE):
        case = case if samples is None else case.shortened(samples)
        way.tell(f"checkpoints, {case.name}")
        times = folder / f"{case.name}-times"
        peer = timed(OurLoop(case, folder, f"checkpoint.every={EVERY}it"), times)
        row: dict[str, Any] = summary(way.pairs(OurLoop(case, folder), {"with": peer})["with"])
        row["weights"] = sum(one.numel() for one in case.make_model().parameters())
        held, written = (_median(times, name) for name in ("held", "written"))
        iterations_us = EVERY * row["cpu"]["reference_us"]
        rows[case.name] = row | {
            "held_ms": round(1e3 * held, 2),
            "written_ms": round(1e3 * written, 2),
            "held_percent": round(1e8 * held / iterations_us, 2),
        }
    return {"every": f"{EVERY}it", **way.described(), "load": {"before": before, "after": load()}, "cases": rows}


def timed(loop: OurLoop, times: Path) -> Peer:
    """The same, which writes down the CPU seconds of the training's thread in each save, and of the writing one's."""

    def train(note: Note) -> None:
        seam.Seam.save = _noting(seam.Seam.save, "held", times)
        checkpoint.write_sealed = _noting(checkpoint.write_sealed, "written", times)
        loop(note)

    return train


def _noting(act: Callable[..., None], name: str, times: Path) -> Callable[..., None]:
    def noting(*arguments: Any) -> None:
        started = time.thread_time()
        act(*arguments)
        with times.open("a") as file:
            file.write(f"{name} {time.thread_time() - started}\n")

    return noting


def _median(times: Path, name: str) -> float:
    lines = (line.split() for line in times.read_text().splitlines())
    return statistics.median(float(line[1]) for line in lines if line[0] == name)
