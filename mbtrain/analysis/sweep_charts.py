"""The charts of a sweep: settings with their seeds, a heat map of two factors, sensitivity to a number, curves."""

from collections.abc import Mapping, Sequence

import numpy as np

from mbtrain.analysis.charts import Cell, DotRow, Dots, Heat, Lines, Panel, Series, wants_log
from mbtrain.analysis.curves import Logs, over_axes
from mbtrain.analysis.experiment import Factor, Setting
from mbtrain.analysis.findings import Findings, interval
from mbtrain.analysis.score import written
from mbtrain.analysis.table import spoken

LEARNING_RATE = "optimizer.lr"
MOST_ROWS, MOST_LINES, MOST_TICKS = 15, 6, 8


def by_weight(findings: Findings) -> list[Factor]:
    """Factors, the one that explains most first."""
    factors = list(findings.experiment.factors)
    if findings.shares is None:
        return factors
    order = {one.name: index for index, one in enumerate(findings.shares.effects)}
    return sorted(factors, key=lambda one: order.get(one.name, len(order)))


def settings_chart(findings: Findings) -> Dots:
    """The best settings, their seeds and intervals."""
    rows = []
    for one in findings.ranking[:MOST_ROWS]:
        told = interval(one.scores)
        rows.append(DotRow(_short(one), one.scores, told.estimate, told.low, told.high, f"{one.label}\n{spoken(told)}"))
    note = "Small dots: one seed each; large dot: their mean; line: its 95 % interval, cut at the edge."
    values = np.array([value for row in rows for value in row.values])
    spread = np.array([value for row in rows for value in (row.low, row.high) if np.isfinite(value)])
    is_log = wants_log(values) and bool((spread > 0).all())
    title = "The settings" if len(rows) == len(findings.ranking) else f"The {len(rows)} best settings"
    return Dots("settings", title, findings.experiment.score.key, rows, note, is_log)


def heat_map(findings: Findings) -> Heat | None:
    """The mean score over the two factors that matter most, the others being at the best setting's levels."""
    factors = by_weight(findings)[:2]
    if len(factors) < 2 or findings.best is None:
        return None
    rows, columns = sorted(factors, key=lambda one: len(one.levels))
    settings = [one for one in _beside_best(findings, factors) if one.finite]
    badness = {one.label: findings.experiment.score.badness(interval(one.finite).estimate) for one in settings}
    ranks = {label: index for index, label in enumerate(sorted(badness, key=lambda label: badness[label]))}
    cells = []
    for one in settings:
        told = interval(one.scores)
        place = columns.levels.index(one.levels[columns.name]), rows.levels.index(one.levels[rows.name])
        share = ranks[one.label] / max(1, len(ranks) - 1)
        mark = "*" if one.num_diverged else ""
        cells.append(Cell(*place, written(told.estimate) + mark, f"{one.label}\n{spoken(told)}", share))
    spoken_score = findings.experiment.score.spoken
    note = f"Mean {spoken_score}; the stronger the colour, the better the rank. {_fixed(findings, factors)}"
    note += "* without runs that diverged." if any(one.num_diverged for one in settings) else ""
    title = f"{rows.name} by {columns.name}"
    return Heat("heat", title, columns.name, rows.name, columns.levels, rows.levels, cells, note)


def sensitivity(findings: Findings) -> Lines | None:
    """The score over the learning rate, or over the number that matters most; a line a level of one further factor."""
    numeric = [one for one in by_weight(findings) if one.numbers is not None and len(one.levels) >= 3]
    if not numeric or findings.best is None:
        return None
    own = next((one for one in numeric if one.name == LEARNING_RATE), numeric[0])
    other = next((one for one in by_weight(findings) if one is not own), None)
    shown = [own] if other is None else [own, other]
    settings = [one for one in _beside_best(findings, shown) if one.finite]
    levels = [None] if other is None else _spread_out(other.levels, MOST_LINES)
    series = []
    for level in levels:
        there = [one for one in settings if other is None or one.levels[other.name] == level]
        if there:
            name = findings.experiment.score.key if other is None else f"{other.name}={level}"
            series.append(_sensitivity_line(name, own, there))
    x, y = (np.concatenate([getattr(one, axis) for one in series]) for axis in ("x", "y"))
    title = "Learning-rate sensitivity" if own.name == LEARNING_RATE else f"Sensitivity to {own.name}"
    note = f"Dot: mean over seeds; band: from the best to the worst seed. {_fixed(findings, shown)}"
    key = findings.experiment.score.key
    ticks = np.unique(x).tolist() if len(np.unique(x)) <= MOST_TICKS else ()
    is_x_log = bool(x.min() > 0 and x.max() > 5 * x.min())
    return Lines(
        "sensitivity", title, own.name, key, series, note, is_x_log=is_x_log, is_y_log=wants_log(y), x_ticks=ticks
    )


def curves(findings: Findings, logs: Logs) -> list[Panel]:
    """Validation and training over time, for the best setting at each level of the factor that matters most."""
    picked = _picked(findings)
    note = "Line: mean over seeds; band: from the lowest to the highest seed."
    epochs = [(name, [logs.epochs(run) for run in one.runs]) for name, one in picked.items()]
    iterations = [(name, [logs.iterations(run) for run in one.runs]) for name, one in picked.items()]
    key = findings.experiment.score.key
    panels = []
    if key.startswith("val/"):
        panels.append(over_axes("curve-validation", key, key, epochs, note))
    panels.append(over_axes("curve-training", "train/loss", "train/loss", iterations, note))
    return [one for one in panels if one.charts]


def _picked(findings: Findings) -> dict[str, Setting]:
    """The settings whose curves are shown, named by all their levels where there is room."""
    factors = by_weight(findings)
    if not factors:
        return {one.label: one for one in findings.experiment.settings}
    ranked = [*findings.ranking, *(one for one in findings.experiment.settings if one not in findings.ranking)]
    best: dict[str, Setting] = {}
    for one in ranked:
        best.setdefault(one.levels[factors[0].name], one)
    return {_short(best[level]): best[level] for level in _spread_out([x for x in factors[0].levels if x in best], 8)}


def _sensitivity_line(name: str, factor: Factor, settings: Sequence[Setting]) -> Series:
    ordered = sorted(settings, key=lambda one: float(one.levels[factor.name]))
    x = np.array([float(one.levels[factor.name]) for one in ordered])
    table = [one.finite for one in ordered]
    is_repeated = any(len(one) > 1 for one in table)
    low, high = (np.array([pick(one) for one in table]) for pick in (min, max))
    y = np.array([float(np.mean(one)) for one in table])
    return Series(name, x, y, low if is_repeated else None, high if is_repeated else None, has_dots=True)


def _beside_best(findings: Findings, free: Sequence[Factor]) -> list[Setting]:
    """Settings that agree with the best one in all factors but `free`."""
    fixed = _fixed_levels(findings, free)
    return [one for one in findings.experiment.settings if all(one.levels[key] == fixed[key] for key in fixed)]


def _fixed_levels(findings: Findings, free: Sequence[Factor]) -> Mapping[str, str]:
    names = [one.name for one in free]
    best = findings.best.levels if findings.best is not None else {}
    return {name: level for name, level in best.items() if name not in names}


def _fixed(findings: Findings, free: Sequence[Factor]) -> str:
    fixed = _fixed_levels(findings, free)
    return f"At {' '.join(f'{name}={level}' for name, level in fixed.items())}. " if fixed else ""


def _spread_out(levels: Sequence[str], count: int) -> list[str]:
    """At most `count` of the levels, first and last among them."""
    if len(levels) <= count:
        return list(levels)
    return [str(levels[round(index)]) for index in np.linspace(0, len(levels) - 1, count)]


def _short(setting: Setting) -> str:
    """A setting with the last part of each key.

    >>> _short(Setting({"optimizer.lr": "0.1", "batch.size": "32"}, (), ()))
    'lr=0.1 batch.size=32'
    """
    shortened = {"optimizer.lr": "lr", "optimizer.weight_decay": "weight_decay", "optimizer.momentum": "momentum"}
    return " ".join(f"{shortened.get(name, name)}={level}" for name, level in setting.levels.items()) or setting.label
