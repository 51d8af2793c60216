"""Curves over training: of one run, thinned, and of a setting, as the mean over its seeds with a band."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from mbtrain.analysis.charts import Array, Lines, Panel, Series, wants_log
from mbtrain.analysis.runs import Run
from mbtrain.analysis.score import Score
from mbtrain.analysis.thinned import ThinnedLog

# What a curve may be drawn over, with its name on the page.
AXES = {"samples_seen": "samples", "iteration": "iterations", "time/elapsed_s": "seconds"}
POINTS = 120
Points = tuple[Array, Array, Array, Array]


class Logs:
    """The thinned logs of runs, read on demand and read on where they have grown."""

    def __init__(self) -> None:
        self._logs: dict[Path, ThinnedLog] = {}

    def iterations(self, run: Run) -> ThinnedLog:
        """The run's iterations.jsonl."""
        return self._read(run.folder / "iterations.jsonl")

    def epochs(self, run: Run) -> ThinnedLog:
        """The run's epochs.jsonl."""
        return self._read(run.folder / "epochs.jsonl")

    def damage(self) -> list[str]:
        """A sentence for each log read so far that has damaged lines."""
        damaged = [(path, one.num_damaged) for path, one in self._logs.items() if one.num_damaged]
        return [f"{path}: {count:,} damaged lines were left out." for path, count in damaged]

    def _read(self, path: Path) -> ThinnedLog:
        log = self._logs.setdefault(path, ThinnedLog(path))
        log.read()
        return log


def over_axes(file: str, title: str, column: str, logs: Sequence[tuple[str, Sequence[ThinnedLog]]], note: str) -> Panel:
    """The same chart over samples, iterations and seconds: a line for each name, over the logs of its seeds."""
    charts, names = [], []
    for axis, spoken in AXES.items():
        series = [line for name, own in logs if (line := mean_curve(name, column, axis, own)) is not None]
        if series:
            heights = [values for one in series for values in (one.y, one.low) if values is not None]
            # A score that is at most 1 when all is well, such as an accuracy, is read on a plain axis.
            is_log = not Score(column).is_high_good and wants_log(np.concatenate(heights))
            note = note if any(one.low is not None for one in series) else ""
            charts.append(Lines(f"{file}-{spoken}", title, spoken, column, series, note, is_y_log=is_log))
            names.append(spoken)
    return Panel(charts, names)


def mean_curve(name: str, column: str, axis: str, logs: Sequence[ThinnedLog]) -> Series | None:
    """The mean over logs on a common grid, the band from the lowest log to the highest; of one log, its own points.

    The band of a single log is the lowest and highest value in each stretch of iterations.
    """
    points = [one for log in logs if len((one := log.points(column, axis))[0])]
    if not points:
        return None
    if len(points) == 1:
        x, mean, low, high = points[0]
        is_thin = bool((low < high).any())
        return Series(name, x, mean, low if is_thin else None, high if is_thin else None, has_dots=len(x) <= 12)
    x = _grid([one[0] for one in points])
    table = np.stack([np.interp(x, one[0], one[1]) for one in points])
    return Series(name, x, table.mean(0), table.min(0), table.max(0), has_dots=len(x) <= 12)


def _grid(axes: Sequence[Array]) -> Array:
    """Where all logs have values: their own points where they agree, else evenly spaced."""
    shared = axes[0]
    if len(shared) <= POINTS and all(len(one) == len(shared) and (one == shared).all() for one in axes):
        return shared
    low, high = max(float(one[0]) for one in axes), min(float(one[-1]) for one in axes)
    count = min(POINTS, max(map(len, axes)))
    return np.linspace(low, max(low, high), count) if high > low else np.array([high])
