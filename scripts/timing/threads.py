"""Threads for mbtrain itself: each fixed number, the fixed rule, `auto`; beside them a micro-batch's forward work."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mbtrain.thread_count import candidates_for
from mbtrain.training.place import FLOPS_WORTH_THREADS, num_cores, tried
from timing.cases import Case
from timing.child import answered
from timing.ours import OurLoop
from timing.pairs import Way, load, summary


def measured(cases: Sequence[Case], folder: Path, way: Way) -> dict[str, Any]:
    """The table; the processes must not be pinned."""
    # What `auto` found here at another time does not count.
    os.environ["XDG_CACHE_HOME"] = str(folder / "cache")
    before, rows = load(), {}
    numbers = [str(one) for one in candidates_for(num_cores())]
    for case in cases:
        way.tell(f"threads, {case.name}")
        peers = {choice: OurLoop(case, folder, threads=choice) for choice in (*numbers[1:], "null", "auto")}
        pairs = way.pairs(OurLoop(case, folder, threads="1"), peers)
        choices = {choice: summary(values) for choice, values in pairs.items()}
        best = min(1.0, *(choices[one]["wall"]["ratio"] for one in numbers[1:]))
        over_best = {one: round(choices[one]["wall"]["ratio"] / best, 3) for one in ("null", "auto")}
        flops = answered(lambda case=case: forward_flops(case))
        rows[case.name] = {"forward_flops": flops, "choices": choices, "over_best": over_best}
    return {
        "flops_worth_threads": FLOPS_WORTH_THREADS,
        **way.described(),
        "load": {"before": before, "after": load()},
        "cases": rows,
    }


def forward_flops(case: Case) -> int:
    """Forward work of one micro-batch, as the rule of `trainer.threads=null` counts it."""
    x, _ = case.make_data()
    return round(tried(case.make_model().eval(), x[:1]).flops * case.micro_size)
