"""What a checkpoint every 100 iterations costs: mbtrain with them against without, a small and a large model."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from timing.cases import CASES, Case
from timing.ours import OurLoop
from timing.pairs import alternated, load, summary

EVERY = "100it"
# 784-256-10 and 784-2900-2900-10, about 0.2 and 10.7 million weights, each with its momentum.
SMALL = replace(CASES["mlp256"], epochs=10)
LARGE = replace(CASES["mlp256"], name="large256", network="large", epochs=2, num_samples=12_800)


def measured(folder: Path, *, samples: int | None, rounds: int, tell: Callable[[str], None]) -> dict[str, Any]:
    """The table: ratios of an iteration with a checkpoint every 100 to one without."""
    before, rows = load(), {}
    for case in (SMALL, LARGE):
        case = case if samples is None else case.shortened(samples)
        tell(f"checkpoints, {case.name}")
        pairs = alternated(
            OurLoop(case, folder / "without"), {"checkpoints": _with(case, folder)}, rounds=rounds, tell=tell
        )
        weights = sum(one.numel() for one in case.make_model().parameters())
        rows[case.name] = {"weights": weights} | summary(pairs["checkpoints"])
    return {"every": EVERY, "rounds": rounds, "load": {"before": before, "after": load()}, "cases": rows}


def _with(case: Case, folder: Path) -> OurLoop:
    return OurLoop(case, folder / "with", f"checkpoint.every={EVERY}")
