"""Two threads against one for mbtrain itself, beside the forward work of a micro-batch: where a second one pays."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from mbtrain.training.place import FLOPS_WORTH_THREADS, tried
from timing.cases import Case
from timing.ours import OurLoop
from timing.pairs import alternated, load, summary


def measured(cases: Sequence[Case], folder: Path, *, rounds: int, tell: Callable[[str], None]) -> dict[str, Any]:
    """The table; the process must not be pinned."""
    before, rows = load(), {}
    for case in cases:
        tell(f"threads, {case.name}")
        one, two = (OurLoop(case, folder, threads=threads) for threads in (1, 2))
        pairs = alternated(one, {"2 threads": two}, rounds=rounds, tell=tell)
        rows[case.name] = {"forward_flops": forward_flops(case)} | summary(pairs["2 threads"])
    return {
        "flops_worth_threads": FLOPS_WORTH_THREADS,
        "rounds": rounds,
        "load": {"before": before, "after": load()},
        "cases": rows,
    }


def forward_flops(case: Case) -> float:
    """Forward work of one micro-batch, as the rule of `trainer.threads=null` counts it."""
    x, _ = case.make_data()
    return tried(case.make_model().eval(), x[:1]).flops * case.micro_size
