"""The sections about what probes measured: noise scale, gradient norms, batch norm's noise, time and memory."""

from collections.abc import Mapping, Sequence

import numpy as np

from mbtrain.analysis.charts import Lines, Panel, Series, wants_log
from mbtrain.analysis.curves import AXES, mean_curve
from mbtrain.analysis.section import Section
from mbtrain.analysis.table import Table, Value, number, percent, word
from mbtrain.analysis.thinned import Array, ThinnedLog

NOISE = {"noise scale": "noise/averaged_scale", "batch size in use": "batch_size"}
NOISE_BAND = ("noise/scale_low", "noise/scale_high")
NOISE_NOTE = (
    "Band: 95 % interval of the averaged noise scale, cut off at 4 times the highest line and a quarter of the lowest. "
    "A batch size below the noise scale is mostly noise, above it mostly signal."
)
SHIFTS = {"mean_shift": "|group mean - running mean| / running deviation", "deviation_shift": "|deviation ratio - 1|"}
PARTS = {"data": "time/data_s", "forward-backward": "time/forward_backward_s", "update": "time/update_s"}
PARTS |= {"logging": "time/logging_s"}
TOGETHER = 8  # lines in one chart: as many as there are colours


def sections(log: ThinnedLog) -> list[Section]:
    """A section for each of them that was measured."""
    parts = [_noise(log), _gradients(log), _batch_norm(log), _time_split(log)]
    return [one for one in parts if one.panels or one.tables]


def is_told(column: str) -> bool:
    """Whether a column is shown by one of these sections.

    >>> is_told("bn/layers.1/mean_shift"), is_told("bn/layers.1/deviation_ratio")
    (True, False)
    """
    is_shift = column.startswith("bn/") and column.endswith(tuple(SHIFTS))
    is_norm = column == "gradient/norm" or column.startswith("gradient/norm/")
    return is_shift or is_norm or column in (NOISE["noise scale"], *NOISE_BAND, *PARTS.values(), *_OF_SPEED)


_OF_SPEED = ("time/samples_per_s", "memory/peak_bytes")


def _noise(log: ThinnedLog) -> Section:
    if NOISE["noise scale"] not in log.columns:
        return Section("Noise scale")
    chart = _together(
        "noise-and-batch-size", "Noise scale and batch size", "samples", NOISE, log, NOISE_NOTE, NOISE_BAND
    )
    return Section("Noise scale", (), [chart])


def _gradients(log: ThinnedLog) -> Section:
    names = [name for name in log.columns if name == "gradient/norm" or name.startswith("gradient/norm/")]
    lines = {name.removeprefix("gradient/norm").removeprefix("/") or "all": name for name in names}
    return Section("Gradient norms", (), _charts("gradient-norm", "Norm of the gradient", "gradient/norm", lines, log))


def _batch_norm(log: ThinnedLog) -> Section:
    panels: list[Panel] = []
    for kind, meaning in SHIFTS.items():
        ending = f"/{kind}"
        lines = {
            name.removeprefix("bn/").removesuffix(ending): name
            for name in log.columns
            if name.startswith("bn/") and name.endswith(ending) and name != f"bn{ending}"
        }
        panels += _charts(f"bn-{kind}", f"Batch norm's noise: {meaning}", kind.replace("_", " "), lines, log)
    return Section("Batch norm's noise", (), panels)


def _time_split(log: ThinnedLog) -> Section:
    """What the host's time of the measured iterations went into."""
    means = {part: _mean(log, column) for part, column in PARTS.items() if column in log.columns}
    if not means:
        return Section("Time split")
    total = sum(means.values())
    shares = [(part, seconds, seconds / total if total > 0 else 0.0) for part, seconds in means.items()]
    rows = [[word(part), number(1000 * mean), Value(percent(share), share, share)] for part, mean, share in shares]
    told = (
        [f"{_mean(log, 'time/samples_per_s'):,.0f} samples a second on average."] if _OF_SPEED[0] in log.columns else []
    )
    if _OF_SPEED[1] in log.columns:
        told.append(f"Most memory in use: {np.nanmax(log.columns[_OF_SPEED[1]].high) / 2**20:,.0f} MiB.")
    chart = _together("time-split", "Seconds of an iteration", "seconds", PARTS, log)
    note = "Host time, means over the iterations in which it was measured."
    return Section("Time split", told, [chart], [Table(["part", "milliseconds", "share"], rows, note)])


def _charts(file: str, title: str, label: str, lines: Mapping[str, str], log: ThinnedLog) -> list[Panel]:
    """Charts of at most TOGETHER lines each."""
    names = list(lines)
    chunks: list[Sequence[str]] = [names[at : at + TOGETHER] for at in range(0, len(names), TOGETHER)]
    return [
        _together(f"{file}-{index}" if index else file, title, label, {name: lines[name] for name in chunk}, log)
        for index, chunk in enumerate(chunks)
    ]


def _together(
    file: str,
    title: str,
    label: str,
    lines: Mapping[str, str],
    log: ThinnedLog,
    note: str = "",
    band: tuple[str, str] | None = None,
) -> Panel:
    """Several columns in one chart, over each axis; `band` are the columns of the first line's interval."""
    charts, names = [], []
    for axis, spoken in AXES.items():
        found = [one for name, column in lines.items() if (one := mean_curve(name, column, axis, [log])) is not None]
        series = [Series(one.name, one.x, one.y, has_dots=one.has_dots) for one in found]
        if series:
            heights = np.concatenate([one.y for one in series])
            if band is not None:
                series[0] = _with_band(series[0], band, axis, log, edges=(heights.min() / 4, heights.max() * 4))
            chart = Lines(f"{file}-{spoken}", title, spoken, label, series, note, is_y_log=wants_log(heights))
            charts.append(chart)
            names.append(spoken)
    return Panel(charts, names)


def _with_band(
    line: Series, band: tuple[str, str], axis: str, log: ThinnedLog, *, edges: tuple[float, float]
) -> Series:
    """`line` with its interval, cut off at `edges`; an end that was not finite lies there."""
    low, high = (_at(line.x, log.points(column, axis)[:2]) for column in band)
    low, high = (np.where(np.isfinite(end), end, edge) for end, edge in zip((low, high), edges, strict=True))
    return Series(line.name, line.x, line.y, np.clip(low, *edges), np.clip(high, *edges), line.has_dots)


def _at(x: Array, points: tuple[Array, Array]) -> Array:
    """The column's values at `x`, nan where it has none."""
    found = dict(zip(*points, strict=True))
    return np.array([found.get(one, np.nan) for one in x])


def _mean(log: ThinnedLog, column: str) -> float:
    one = log.columns[column]
    return float(np.nanmean(one.mean))
