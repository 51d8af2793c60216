"""What a checkpoint every 100 iterations costs: mbtrain with them against without, a small and a large model."""

import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

from mbtrain.training import checkpoint, seam
from timing.cases import CASES
from timing.ours import OurLoop
from timing.pairs import alternated, load, summary

EVERY = 100
# 784-256-10 and 784-2900-2900-10, about 0.2 and 10.7 million weights, each with its momentum.
SMALL = replace(CASES["mlp256"], epochs=10)
LARGE = replace(CASES["mlp256"], name="large256", network="large", epochs=2, num_samples=12_800)


def measured(folder: Path, *, samples: int | None, rounds: int, tell: Callable[[str], None]) -> dict[str, Any]:
    """The table: ratios of an iteration with a checkpoint every 100 to one without, and CPU time of a checkpoint."""
    before, rows = load(), {}
    for case in (SMALL, LARGE):
        case = case if samples is None else case.shortened(samples)
        tell(f"checkpoints, {case.name}")
        with_them = OurLoop(case, folder / "with", f"checkpoint.every={EVERY}it")
        with _timed() as times:
            pairs = alternated(OurLoop(case, folder / "without"), {"checkpoints": with_them}, rounds=rounds, tell=tell)
        row: dict[str, Any] = summary(pairs["checkpoints"])
        row["weights"] = sum(one.numel() for one in case.make_model().parameters())
        held, written = (statistics.median(times[name]) for name in ("held", "written"))
        iterations_us = EVERY * row["cpu"]["reference_us"]
        rows[case.name] = row | {
            "held_ms": round(1e3 * held, 2),
            "written_ms": round(1e3 * written, 2),
            "held_percent": round(1e8 * held / iterations_us, 2),
        }
    return {"every": f"{EVERY}it", "rounds": rounds, "load": {"before": before, "after": load()}, "cases": rows}


@contextmanager
def _timed() -> Iterator[dict[str, list[float]]]:
    """CPU seconds of the training's thread in each save, and of the thread that writes it."""
    times: dict[str, list[float]] = {"held": [], "written": []}
    with (
        patch.object(seam.Seam, "save", _noting(seam.Seam.save, times["held"])),
        patch.object(checkpoint, "write_sealed", _noting(checkpoint.write_sealed, times["written"])),
    ):
        yield times


def _noting(act: Callable[..., None], times: list[float]) -> Callable[..., None]:
    def noting(*arguments: Any) -> None:
        started = time.thread_time()
        act(*arguments)
        times.append(time.thread_time() - started)

    return noting
