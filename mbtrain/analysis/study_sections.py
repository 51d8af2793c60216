"""What a study's page shows beside its contrasts: other columns of the runs, and loss against learning rate."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from mbtrain.analysis.charts import Lines, Panel, Series
from mbtrain.analysis.section import Section
from mbtrain.analysis.statistics import finite_mean_interval
from mbtrain.analysis.table import Table, Value, number, with_interval, word
from mbtrain.analysis.trajectory import Trajectory

# A learning rate serves where its loss is within so much of the arm's best.
USABLE = 1.1


def columns_section(study: Mapping[str, Any], runs: Mapping[str, Trajectory]) -> Section:
    """A row an arm: the mean of each column that the study names, over the runs that have it."""
    rows = []
    for name, case in study["cases"].items():
        for arm, folders in case["runs"].items():
            own = [runs[one].columns for one in folders]
            values = [[one.get(column, math.nan) for one in own] for column in study["columns"]]
            finite = [[one for one in column if math.isfinite(one)] for column in values]
            rows.append([word(name), word(arm), *(with_interval(finite_mean_interval(one)) for one in finite)])
    return Section("Beside the loss", tables=[Table(["case", "arm", *study["columns"]], rows)])


def sensitivity_section(study: Mapping[str, Any]) -> Section:
    """Loss against learning rate, a line an arm, and how wide the range is that serves."""
    panels, rows = [], []
    for name, case in study["cases"].items():
        series = [line for arm, tried in case["tuning"].items() if (line := _line(arm, tried)) is not None]
        if series:
            title = f"{name}: loss against learning rate"
            chart = Lines(f"{name}-rates", title, "learning rate", "loss", series, is_x_log=True, is_y_log=True)
            panels.append(Panel([chart]))
        for arm, tried in case["tuning"].items():
            low, high, num_diverged = usable(tried)
            rows.append([word(name), word(arm), number(low), number(high), Value(f"{high / low:.3g} x", high / low)])
            rows[-1].append(number(float(num_diverged)))
    columns = ["case", "arm", "lowest that serves", "highest", "range", "rates that diverged"]
    told = (
        f"Mean validation loss of the tuning seeds and a standard error. A rate serves where that is within "
        f"{USABLE - 1:.0%} of the arm's best; rates that diverged are not drawn."
    )
    return Section("Loss against learning rate", [told], panels, [Table(columns, rows)])


def usable(tried: Sequence[tuple[float, float | None]]) -> tuple[float, float, int]:
    """The lowest and highest rate, without a gap, around the best that serve, and how many rates diverged.

    >>> usable([(0.1, 0.5), (0.2, 0.4), (0.4, 0.42), (0.8, None)])
    (0.2, 0.4, 1)
    """
    finite = [(rate, loss) for rate, loss in sorted(tried) if loss is not None]
    if not finite:
        return math.nan, math.nan, len(tried)
    best = min(range(len(finite)), key=lambda place: finite[place][1])
    most = USABLE * finite[best][1]
    low = high = best
    while low > 0 and finite[low - 1][1] <= most:
        low -= 1
    while high < len(finite) - 1 and finite[high + 1][1] <= most:
        high += 1
    return finite[low][0], finite[high][0], len(tried) - len(finite)


def _line(arm: str, tried: Sequence[tuple[float, float | None]]) -> Series | None:
    finite = [(rate, loss) for rate, loss in sorted(tried) if loss is not None]
    if not finite:
        return None
    rates, losses = map(np.array, zip(*finite, strict=True))
    return Series(arm, rates, losses, has_dots=True)
