"""What a study's page shows beside its contrasts: other columns of the runs, and loss against learning rate."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from mbtrain.analysis.arms import Values, columns_of, order_panel
from mbtrain.analysis.charts import Lines, Panel, Series
from mbtrain.analysis.section import Section
from mbtrain.analysis.statistics import finite_mean_interval
from mbtrain.analysis.table import Table, Value, number, with_interval, word
from mbtrain.analysis.trajectory import Trajectory

# A learning rate serves where its loss is within so much of the arm's best.
USABLE = 1.1
# Each rate that was tried, rising, with its loss; None where it diverged.
Tried = Sequence[tuple[float, float | None]]


def columns_section(
    study: Mapping[str, Any], runs: Mapping[str, Trajectory], losses: Mapping[str, Values]
) -> Section | None:
    """A row an arm: the mean of each column that the study names; and what moves with the arms' numbers.

    `losses` are by case and arm, at the study's budget. None where the study names nothing and its arms have no order.
    """
    by_case = {name: columns_of(case, study["columns"], runs) for name, case in study["cases"].items()}
    columns = list(dict.fromkeys(column for own in by_case.values() for column in own))
    rows, panels = [], []
    for name, case in study["cases"].items():
        own = by_case[name]
        panel = order_panel(name, {"validation loss": losses[name], **own}, case["batch_sizes"])
        panels += [] if panel is None else [panel]
        for arm in case["runs"]:
            cells = [own.get(column, {}).get(arm) for column in columns]
            rows.append([word(name), word(arm), *map(_cell, cells)])
    if not columns and not panels:
        return None
    trained = any(one.startswith("train/") for one in columns)
    told = ["train/ is the mean over the last epoch's mini-batches, taken while the weights moved."] if trained else []
    tables = [Table(["case", "arm", *columns], rows)] if columns else []
    return Section("Beside the loss", told, panels, tables)


def _cell(values: Sequence[float] | None) -> Value:
    return word("") if values is None else with_interval(finite_mean_interval(values))


def sensitivity_section(study: Mapping[str, Any]) -> Section:
    """Loss against learning rate, a line an arm: which rate was chosen, and how wide the range is that serves."""
    panels, rows = [], []
    for name, case in study["cases"].items():
        series = [line for arm, tried in case["tuning"].items() if (line := _line(arm, tried)) is not None]
        if series:
            title = f"{name}: loss against learning rate"
            note = "A cross at the top: a rate at which that arm diverged." if any(len(s.lost) for s in series) else ""
            chart = Lines(f"{name}-rates", title, "learning rate", "loss", series, note, is_x_log=True, is_y_log=True)
            panels.append(Panel([chart]))
        for arm, tried in case["tuning"].items():
            num_diverged = sum(loss is None for _, loss in tried)
            rows.append([word(name), word(arm), *_width(usable(tried)), number(float(num_diverged))])
    columns = ["case", "arm", "lowest that serves", "highest", "range", "rates that diverged"]
    told = (
        "Loss is the tuning seeds' mean validation loss and a standard error. A rate serves where that is within "
        f"{100 * (USABLE - 1):.0f} % of the arm's best; the range ends on the straight line (in the rate's logarithm) "
        "to the next rate that was tried, or at the last before one that diverged. At least: the grid ends first."
    )
    return Section("Learning rates", [told], panels, [_rates(study), Table(columns, rows)])


def _rates(study: Mapping[str, Any]) -> Table:
    rows = []
    for name, case in study["cases"].items():
        for arm, tried in case["tuning"].items():
            losses = ", ".join(f"{lr:g}: {'diverged' if loss is None else f'{loss:.4f}'}" for lr, loss in tried)
            where = "inside the grid" if case["is_inside"][arm] else "AT THE EDGE of the grid"
            rows.append([word(name), word(arm), number(case["rates"][arm]), word(where), word(losses)])
    return Table(["case", "arm", "learning rate", "the best is", "loss by learning rate"], rows)


@dataclass(frozen=True)
class Usable:
    """The range of rates around an arm's best that serve; `is_open` where the grid ends before the range does."""

    low: float
    high: float
    is_open: bool


def usable(tried: Tried) -> Usable | None:
    """The range without a gap around the best; None where all diverged.

    >>> usable([(0.1, None), (0.2, 0.4), (0.4, 0.42), (0.8, None)])
    Usable(low=0.2, high=0.4, is_open=False)
    """
    rates, losses = [rate for rate, _ in tried], [math.inf if loss is None else loss for _, loss in tried]
    least = min(losses, default=math.inf)
    if math.isinf(least):
        return None
    best = losses.index(least)
    low, is_low_open = _end(rates[best::-1], losses[best::-1])
    high, is_high_open = _end(rates[best:], losses[best:])
    return Usable(low, high, is_low_open or is_high_open)


def _end(rates: Sequence[float], losses: Sequence[float]) -> tuple[float, bool]:
    """Where the losses, going out from the best, cross what serves; and whether they never did."""
    most = USABLE * losses[0]
    beyond = next((place for place, loss in enumerate(losses) if loss > most), None)
    if beyond is None:
        return rates[-1], True
    last = beyond - 1
    if math.isinf(losses[beyond]):
        return rates[last], False
    share = (most - losses[last]) / (losses[beyond] - losses[last])
    return rates[last] * (rates[beyond] / rates[last]) ** share, False


def _width(found: Usable | None) -> tuple[Value, Value, Value]:
    if found is None:
        return number(math.nan), number(math.nan), number(math.nan)
    factor = found.high / found.low
    told = f"{'at least ' if found.is_open else ''}{factor:.3g} x"
    return number(found.low), number(found.high), Value(told, factor)


def _line(arm: str, tried: Tried) -> Series | None:
    finite = [(rate, loss) for rate, loss in tried if loss is not None]
    if not finite:
        return None
    rates, losses = map(np.array, zip(*finite, strict=True))
    lost = np.array([rate for rate, loss in tried if loss is None], dtype=np.float64)
    return Series(arm, rates, losses, has_dots=True, lost=lost)
