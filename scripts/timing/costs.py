"""What grows: the cost of one more logged metric, of wandb beside the run, of more weights and of more tensors."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from timing.cases import CASES, Case
from timing.child import Child
from timing.command import mbtrain, spent
from timing.hand import HandLoop, by_hand
from timing.ours import OurLoop
from timing.pairs import Pair, Way, load, quartiles, summary

FEW, MANY = 1, 11
# Rows of the short and of the long run whose difference is what a row costs with a tracker.
ROWS = (1_000, 21_000)
# By weights, 4,810 to 10.7 million, and by tensors: 50 layers of 64.
SIZES = (
    CASES["tiny32"],
    CASES["mlp32"],
    Case("large32", "large", 32, 32, num_samples=160),
    Case("deep32", "deep", 32, 32, num_samples=6_400),
)


class Columns:
    """A probe that logs `count` numbers."""

    def __init__(self, *, count: int) -> None:
        self._values = {f"column/{index}": torch.tensor(float(index)) for index in range(count)}

    def __call__(self, parameters: Sequence[nn.Parameter]) -> dict[str, Tensor]:
        """As many columns."""
        return dict(self._values)


def measured(folder: Path, way: Way, *, samples: int | None) -> dict[str, Any]:
    """All of it."""
    before = load()
    return {
        **way.described(),
        "metric_us": _metric(folder, way, samples),
        "wandb": _wandb(folder, way, samples),
        "sizes": _sizes(folder, way, samples),
        "load": {"before": before, "after": load()},
    }


def _metric(folder: Path, way: Way, samples: int | None) -> list[float]:
    """Quartiles of the CPU microseconds of one more column in every row, tiny 32."""
    way.tell("one more logged metric")
    case = _cut(CASES["tiny32"], samples)
    few, many = (
        OurLoop(case, folder, f"++probe.columns={{_target_:timing.costs.Columns,every:1it,count:{count}}}")
        for count in (FEW, MANY)
    )
    return _differences(way.pairs(few, {"many": many})["many"], MANY - FEW)


def _differences(pairs: Sequence[Pair], count: int) -> list[float]:
    return [round(one, 2) for one in quartiles([1e6 * (two.cpu - one.cpu) / count for one, two in pairs])]


def _wandb(folder: Path, way: Way, samples: int | None) -> dict[str, float]:
    """CPU microseconds a row of a run without a tracker and of wandb, offline, in its process beside."""
    way.tell("wandb, offline")
    case, rows = _cut(CASES["tiny32"], samples), ROWS if samples is None else (1_000, 4_000)
    cpu = {}
    for name, tracker in {"run": ("tracker=none",), "both": ("tracker=wandb", "tracker.wandb.mode=offline")}.items():
        few, many = (
            spent(mbtrain(*OurLoop(case, folder).finite(f"{name}-{count}", count), *tracker), folder) for count in rows
        )
        cpu[name] = 1e6 * (many.cpu - few.cpu) / (rows[1] - rows[0])
        cpu[f"{name}_wall"] = 1e6 * (many.wall - few.wall) / (rows[1] - rows[0])
    return {name: round(one, 1) for name, one in cpu.items()}


def _sizes(folder: Path, way: Way, samples: int | None) -> dict[str, Any]:
    """By model: time over the hand loop's, and memory of both."""
    rows = {}
    for case in (_cut(one, samples) for one in SIZES):
        way.tell(f"weights and tensors, {case.name}")
        parameters = list(case.make_model().parameters())
        hand, ours = HandLoop(case, by_hand), OurLoop(case, folder)
        rows[case.name] = {
            "weights": sum(one.numel() for one in parameters),
            "tensors": len(parameters),
            "memory_mb": [round(_memory(peer) / 1e6) for peer in (hand, ours)],
            **summary(way.pairs(hand, {"ours": ours})["ours"]),
        }
    return rows


def _memory(peer: Any) -> int:
    """Bytes that a peer has of its own after some epochs, what it shares with the process that forked it left out."""
    child = Child(peer, core=None)
    try:
        child.wait_for(4)
        return child.memory_bytes()
    finally:
        child.stop()


def _cut(case: Case, samples: int | None) -> Case:
    return case if samples is None else case.shortened(samples)
