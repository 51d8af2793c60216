"""The arms of a case beside each other: what else than the loss they came to, and what moves with their number.

An arm whose name ends in a number (`b32`, `group_16`, `accumulate_8`) stands in an order with those of the same stem.
"""

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from mbtrain.analysis.charts import Lines, Panel, Series
from mbtrain.analysis.statistics import Interval, finite_mean_interval
from mbtrain.analysis.trajectory import Trajectory

# Fewer arms of one stem than this are no order.
FEWEST = 3
Values = Mapping[str, Sequence[float]]


def columns_of(case: Mapping[str, Any], names: Sequence[str], runs: Mapping[str, Trajectory]) -> dict[str, Values]:
    """By column and arm the value of each run, nan where it diverged; with the gap between training and test data.

    A run that finished without a column has no value there; an arm without any is left out, and so is a column.
    """
    own = {arm: [runs[one] for one in folders] for arm, folders in case["runs"].items()}
    found = {name: {arm: _values(ran, name) for arm, ran in own.items()} for name in names}
    for name, other, gap in _gaps(names):
        found[gap] = {arm: _values(ran, name, other) for arm, ran in own.items()}
    kept = {name: {arm: some for arm, some in by_arm.items() if some} for name, by_arm in found.items()}
    return {name: by_arm for name, by_arm in kept.items() if by_arm}


def _gaps(names: Sequence[str]) -> list[tuple[str, str, str]]:
    """(the worse, the better, what their difference is called): a gap above 0 is what training does not carry over."""
    shared = [one.removeprefix("test/") for one in names if one.startswith("test/")]
    shared = [one for one in shared if f"train/{one}" in names]
    ordered = [("train", "test", one) if one == "accuracy" else ("test", "train", one) for one in shared]
    return [(f"{a}/{one}", f"{b}/{one}", f"{a}/{one} - {b}/{one}") for a, b, one in ordered]


def _values(runs: Sequence[Trajectory], name: str, less: str | None = None) -> list[float]:
    found = []
    for run in runs:
        value = run.columns.get(name, math.nan)
        if less is not None:
            value -= run.columns.get(less, math.nan)
        if math.isfinite(value) or not math.isfinite(run.final):
            found.append(value)
    return found if any(map(math.isfinite, found)) else []


def stems(arms: Sequence[str]) -> dict[str, list[tuple[float, str]]]:
    """The numbers that names end in, in order, with those names, by what stands before.

    >>> stems(["group_4", "group_2", "group_8", "none"])
    {'group': [(2.0, 'group_2'), (4.0, 'group_4'), (8.0, 'group_8')]}
    """
    found: dict[str, list[tuple[float, str]]] = {}
    for arm in arms:
        if parts := re.fullmatch(r"(\D*?)_?(\d+(?:\.\d+)?)", arm):
            found.setdefault(parts[1], []).append((float(parts[2]), arm))
    return {stem: sorted(some) for stem, some in found.items() if len(some) >= FEWEST}


def order_panel(name: str, columns: Mapping[str, Values], sizes: Mapping[str, int]) -> Panel | None:
    """Each column against the arms' number, a line a stem; arms without one are level lines. None without an order."""
    charts, names = [], []
    for column, by_arm in columns.items():
        finite = {arm: values for arm, values in by_arm.items() if any(map(math.isfinite, values))}
        by_stem = stems(list(finite))
        if by_stem:
            charts.append(_chart(name, column, finite, by_stem, _axis(by_stem, sizes)))
            names.append(column)
    return Panel(charts, names) if charts else None


def _axis(by_stem: Mapping[str, Sequence[tuple[float, str]]], sizes: Mapping[str, int]) -> str:
    """What the number is: the mini-batch where it says so, else what stands before it."""
    if all(number == sizes[arm] for some in by_stem.values() for number, arm in some):
        return "mini-batch"
    return ", ".join(by_stem)


def _chart(
    case: str, column: str, values: Values, by_stem: Mapping[str, Sequence[tuple[float, str]]], axis: str
) -> Lines:
    intervals = {arm: finite_mean_interval(some) for arm, some in values.items()}
    placed = {arm for some in by_stem.values() for _, arm in some}
    numbers = sorted({number for some in by_stem.values() for number, _ in some})
    series = [
        _series(
            axis if len(by_stem) == 1 else stem, [number for number, _ in some], [intervals[arm] for _, arm in some]
        )
        for stem, some in by_stem.items()
    ]
    ends = [numbers[0], numbers[-1]]
    series += [_series(arm, ends, [one, one], has_dots=False) for arm, one in intervals.items() if arm not in placed]
    file = f"{case}-{re.sub('[^a-z0-9]+', '-', column)}-in-order"
    note = "Mean of the seeds; the band is its 95 % interval."
    if len(placed) < len(values):
        note += " Arms without a number are level lines."
    return Lines(
        file,
        f"{case}: {column} against {axis}",
        axis,
        column,
        series,
        note,
        is_x_log=numbers[0] > 0,
        x_ticks=tuple(numbers),
    )


def _series(name: str, x: Sequence[float], intervals: Sequence[Interval], *, has_dots: bool = True) -> Series:
    mean, low, high = (np.array([getattr(one, at) for one in intervals]) for at in ("estimate", "low", "high"))
    has_band = bool(np.isfinite(low).all())
    return Series(name, np.array(x), mean, low if has_band else None, high if has_band else None, has_dots=has_dots)
