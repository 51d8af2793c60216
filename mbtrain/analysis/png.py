"""Charts as PNG files by matplotlib, for papers and slides."""

import warnings
from collections.abc import Sequence
from functools import singledispatch
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from mbtrain.analysis.charts import Chart, Dots, Heat, Lines, log_ticks

DOTS_PER_INCH = 130


def save(charts: Sequence[Chart], folder: Path) -> list[Path]:
    """Write one picture a chart, named by its `file`."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for chart in charts:
        figure = Figure(figsize=(6.4, 4.0), layout="constrained")
        FigureCanvasAgg(figure)
        axes = figure.add_subplot()
        axes.set_title(_plain(chart.title), fontsize=10)
        axes.set_xlabel(_plain(chart.x_label))
        _draw(chart, axes)
        paths.append(folder / f"{chart.file}.png")
        with warnings.catch_warnings():
            # A name in letters that the font lacks is drawn with boxes; nobody needs a warning for each.
            warnings.filterwarnings("ignore", message="Glyph")
            figure.savefig(paths[-1], dpi=DOTS_PER_INCH)
    return paths


@singledispatch
def _draw(chart: object, axes: Axes) -> None:
    raise TypeError(type(chart))


@_draw.register
def _lines(chart: Lines, axes: Axes) -> None:
    for one in chart.series:
        (line,) = axes.plot(one.x, one.y, label=_plain(one.name), marker="o" if one.has_dots else None, linewidth=1.4)
        if one.low is not None and one.high is not None:
            axes.fill_between(one.x, one.low, one.high, color=line.get_color(), alpha=0.2, linewidth=0)
        # Crosses stand at the top whatever the scale: their height is a share of it.
        at_top = axes.get_xaxis_transform()
        axes.plot(one.lost, np.full(len(one.lost), 0.97), "x", color=line.get_color(), transform=at_top)
    axes.set_ylabel(_plain(chart.y_label))
    if chart.is_y_log:
        axes.set_yscale("log")
        axes.yaxis.set_minor_locator(NullLocator())
        ticks = log_ticks(*axes.get_ylim())
        axes.set_yticks(ticks, [f"{tick:g}" for tick in ticks])
    if chart.is_x_log:
        axes.set_xscale("log")
        axes.xaxis.set_minor_locator(NullLocator())
    if chart.x_ticks or chart.is_x_log:
        ticks = chart.x_ticks or log_ticks(*axes.get_xlim())
        axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    if len(chart.series) > 1:
        axes.legend(fontsize=8, frameon=False)
    axes.grid(alpha=0.3)


@_draw.register
def _dots(chart: Dots, axes: Axes) -> None:
    if chart.margin is not None:
        axes.axvspan(-chart.margin, chart.margin, color="C0", alpha=0.12, linewidth=0)
        axes.axvline(0, color="0.4", linewidth=1)
    for index, row in enumerate(chart.rows):
        if np.isfinite(row.low):
            axes.plot([row.low, row.high], [index, index], color="C0", linewidth=2)
        axes.plot(row.values, [index] * len(row.values), "o", color="C0", alpha=0.35, markersize=4)
        axes.plot([row.mean], [index], "o", color="C0", markersize=7)
    axes.set_yticks(range(len(chart.rows)), [_plain(row.name) for row in chart.rows], fontsize=8)
    axes.invert_yaxis()
    if chart.is_x_log:
        axes.set_xscale("log")
        axes.xaxis.set_minor_locator(NullLocator())
        ticks = log_ticks(*axes.get_xlim())
        axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.grid(axis="x", alpha=0.3)


@_draw.register
def _heat(chart: Heat, axes: Axes) -> None:
    table = np.full((len(chart.rows), len(chart.columns)), np.nan)
    for cell in chart.cells:
        table[cell.row, cell.column] = cell.badness
        color = "white" if cell.badness < 0.45 else "black"
        axes.text(cell.column, cell.row, _plain(cell.written), ha="center", va="center", fontsize=8, color=color)
    axes.imshow(table, cmap="Blues_r", vmin=0, vmax=1.1, aspect="auto")
    axes.set_xticks(range(len(chart.columns)), [_plain(one) for one in chart.columns])
    axes.set_yticks(range(len(chart.rows)), [_plain(one) for one in chart.rows])
    axes.set_ylabel(_plain(chart.y_label))


def _plain(text: str) -> str:
    """Text that is not taken for a formula."""
    return text.replace("$", r"\$")
