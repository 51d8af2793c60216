"""What grows: the cost of one more logged metric, of wandb beside the run, of more weights and of more tensors."""

import sys
from collections.abc import Sequence
from pathlib import Path
from statistics import median
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
# By case, rows of the short and of the long run whose difference is what a row costs with a tracker. An iteration of
# the first is shorter than what wandb takes for a row, one of the second is longer.
ROWS = {"tiny32": (1_000, 21_000), "mlp256": (500, 4_500)}
WANDB_ROUNDS, LOGGED_NUMBERS = 3, 12
# wandb by itself, without mbtrain.
BARE = """
import sys, wandb
run = wandb.init(mode="offline", settings=wandb.Settings(console="off", silent=True, x_disable_stats=True))
row = {f"column/{number}": 0.1 * number for number in range(int(sys.argv[2]))}
for step in range(int(sys.argv[1])):
    run.log(row, step=step)
run.finish()
"""
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


def _wandb(folder: Path, way: Way, samples: int | None) -> dict[str, Any]:
    """What wandb costs in its process beside a run, and what it takes by itself, all offline."""
    names = ROWS if samples is None else {"tiny32": (100, 600)}
    found: dict[str, Any] = {name: _with_wandb(CASES[name], rows, folder, way, samples) for name, rows in names.items()}
    way.tell("wandb by itself")
    rows = ROWS["tiny32"] if samples is None else (100, 600)
    few, many = (
        spent([sys.executable, "-c", BARE, str(count), str(LOGGED_NUMBERS)], folder) for count in rows
    )  # fmt: skip
    return {**found, "bare_us": round(1e6 * (many.cpu - few.cpu) / (rows[1] - rows[0]), 1)}


def _with_wandb(case: Case, rows: tuple[int, int], folder: Path, way: Way, samples: int | None) -> dict[str, Any]:
    """Microseconds of an iteration without it, of CPU time of a row with it, and the ratio of the wall clock's."""
    case, trackers = (
        _cut(case, samples),
        {"run": ["tracker=none"], "both": ["tracker=wandb", "tracker.wandb.mode=offline"]},
    )
    cpu: dict[str, list[float]] = {name: [] for name in trackers}
    wall: dict[str, list[float]] = {name: [] for name in trackers}
    for index in range(WANDB_ROUNDS if samples is None else 1):
        way.tell(f"wandb, offline, {case.name}, round {index + 1}")
        for name, tracker in trackers.items():
            few, many = (
                spent(
                    mbtrain(*OurLoop(case, folder).finite(f"{case.name}-{name}-{index}-{count}", count), *tracker),
                    folder,
                )
                for count in rows
            )
            cpu[name].append(1e6 * (many.cpu - few.cpu) / (rows[1] - rows[0]))
            wall[name].append(1e6 * (many.wall - few.wall) / (rows[1] - rows[0]))
    beside = [both - run for run, both in zip(cpu["run"], cpu["both"], strict=True)]
    ratios = [both / run for run, both in zip(wall["run"], wall["both"], strict=True)]
    return {
        "run_us": round(median(wall["run"]), 1),
        "beside_us": round(median(beside), 1),
        "wall_ratio": round(median(ratios), 3),
        "wall_ratios": [round(one, 3) for one in ratios],
    }


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
