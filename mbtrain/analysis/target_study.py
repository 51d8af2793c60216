"""The page of a study that trains to a target: updates, samples and seconds to it against the mini-batch."""

import math
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import orjson

from mbtrain.analysis.charts import Lines, Panel, Series
from mbtrain.analysis.hyperbola import Law, law
from mbtrain.analysis.page import Page
from mbtrain.analysis.reaching import between, crossing
from mbtrain.analysis.section import Section
from mbtrain.analysis.statistics import Interval, finite_mean_interval
from mbtrain.analysis.study import save, subtitle
from mbtrain.analysis.table import Table, Value, number, percent, spoken, with_interval, word
from mbtrain.analysis.trajectory import Trajectory, trajectories

NOISE_SCALE = "noise/averaged_scale"
LIMITS = (
    "The critical batch size belongs to this protocol: data, model, optimizer, schedule, target, tuning.",
    "An arm counts where its best learning rate is inside its grid and every run got to the target.",
    "Times are seconds of an update as calibrated, one run at a time, times the updates; validation is not in them.",
)


@dataclass(frozen=True)
class Arm:
    """A mini-batch of a case: samples to the target of each seed (nan: not reached), seconds of an update (nan)."""

    name: str
    size: int
    samples: tuple[float, ...]
    rates: tuple[float, ...]
    is_inside: bool
    seconds: float

    @property
    def why_not(self) -> str:
        """Why it is left out of the fit, empty where it is in it."""
        reached = sum(map(math.isfinite, self.samples))
        # Runs of several lengths are read between two of them, all together.
        if not reached and len(self.rates) > 1:
            return "the target lies between no two lengths that were run, or a run diverged"
        if not self.samples or reached < len(self.samples):
            return f"{reached} of {len(self.samples)} runs reached the target"
        return "" if self.is_inside else "its best learning rate is at the edge of the grid"

    def interval(self, factor: float = 1.0) -> Interval:
        """The mean samples to the target over the seeds that reached it, times a factor."""
        return finite_mean_interval([factor * one for one in self.samples if math.isfinite(one)])


@dataclass(frozen=True)
class Case:
    """The arms of a case, smallest mini-batch first, and the law through those that count."""

    name: str
    schedule: str
    arms: tuple[Arm, ...]
    law: Law | None
    noise_scale: float

    @property
    def fitted(self) -> list[Arm]:
        """The arms that count."""
        return [one for one in self.arms if not one.why_not]


def write_target_study(study_dir: Path) -> tuple[Path, list[str]]:
    """Write the page, as `write_study` does; its path, and the answer a sentence a case."""
    study = orjson.loads((study_dir / "study.json").read_bytes())
    cases = cases_of(study, trajectories(study_dir, study))
    answers = [_sentence(one, study["target"]) for one in cases]
    sections = [*(_section(one, study["target"]) for one in cases), _rates(study)]
    return save(
        Page(study["name"], subtitle(study), answers, sections, [*LIMITS, *study["limits"]]), study_dir
    ), answers


def cases_of(study: Mapping[str, Any], runs: Mapping[str, Trajectory]) -> list[Case]:
    """What the runs say, case by case."""
    return [_case(name, node, study, runs) for name, node in study["cases"].items()]


def _case(name: str, node: Mapping[str, Any], study: Mapping[str, Any], runs: Mapping[str, Trajectory]) -> Case:
    below = study["target"]["below"]
    # An arm that takes another's rate is there for what it shows besides.
    own = {arm: one for arm, one in node["arms"].items() if arm not in study["rate_of"]}
    arms = sorted((_arm(arm, one, below, runs) for arm, one in own.items()), key=lambda one: one.size)
    counted = {one.size: one.samples for one in arms if not one.why_not}
    shown = [runs[one].columns.get(NOISE_SCALE, math.nan) for one in _folders(node["arms"].values())]
    noise = [one for one in shown if math.isfinite(one)]
    scale = statistics.fmean(noise) if noise else math.nan
    return Case(name, node["schedule"], tuple(arms), law(counted) if len(counted) > 1 else None, scale)


def _arm(name: str, node: Mapping[str, Any], below: float, runs: Mapping[str, Trajectory]) -> Arm:
    by_length = {int(length): [runs[one] for one in at["runs"]] for length, at in node["lengths"].items()}
    if len(by_length) == 1:
        (own,) = by_length.values()
        samples = [crossing(one, below) for one in own]
    else:
        finals = {length: [one.final for one in own] for length, own in by_length.items()}
        samples = between(finals, below) or [math.nan] * len(next(iter(finals.values())))
    rates = tuple(at["rate"] for at in node["lengths"].values())
    is_inside = all(at["is_inside"] for at in node["lengths"].values())
    timed = node["seconds_per_iteration"]
    seconds = statistics.median(timed) if timed else math.nan
    return Arm(name, node["batch_size"], tuple(samples), rates, is_inside, seconds)


def _folders(arms: Any) -> list[str]:
    return [one for arm in arms for at in arm["lengths"].values() for one in at["runs"]]


def _sentence(case: Case, target: Mapping[str, Any]) -> str:
    """The answer of a case."""
    told = f"{case.name}: to {target['key']} {target['below']:g} under a {case.schedule} learning rate"
    if case.law is None:
        return f"{told} no law can be fitted: fewer than two sizes of mini-batch count."
    fitted, critical = case.law.fitted, case.law.critical_size()
    if fitted.is_bent:
        told += (
            f" the critical batch size is {spoken(critical)} seeds: updates = {fitted.least_updates:,.0f} x "
            f"(1 + {fitted.critical_size:,.0f} / B)"
        )
    else:
        side = "below the smallest" if fitted.critical_size < fitted.low else "above the largest"
        told += f" no bend is visible: the critical batch size is far {side}"
    told += f", B from {fitted.low:,.0f} to {fitted.high:,.0f}, rms log-residual {fitted.residual:.3f}"
    timed = [one for one in case.fitted if math.isfinite(one.seconds)]
    if timed:
        fastest = min(timed, key=lambda one: one.interval(one.seconds / one.size).estimate)
        told += (
            f". Fastest here is B = {fastest.size:,}: {spoken(fastest.interval(fastest.seconds / fastest.size))} "
            "seconds of training"
        )
    if math.isfinite(case.noise_scale):
        told += f". The noise scale on the way was {case.noise_scale:,.0f}"
    return told + "."


def _section(case: Case, target: Mapping[str, Any]) -> Section:
    left_out = [f"{one.name} is left out of the fit: {one.why_not}." for one in case.arms if one.why_not]
    panels = list(_panels(case, f"{target['key']} {target['below']:g}")) if case.fitted else []
    return Section(case.name, left_out, panels, [_table(case)])


def _panels(case: Case, target: str) -> Iterator[Panel]:
    """Updates, samples, seconds to the target and samples a second, each against the mini-batch."""
    yield Panel([_chart(case, "updates", f"updates to {target}", lambda arm: 1 / arm.size)])
    yield Panel([_chart(case, "samples", f"samples to {target}", lambda arm: 1.0)])
    timed = [one for one in case.fitted if math.isfinite(one.seconds)]
    if len(timed) > 1:
        yield Panel([_chart(case, "seconds", f"seconds to {target}", lambda arm: arm.seconds / arm.size)])
        sizes = np.array([float(one.size) for one in timed])
        pace = Series("samples a second", sizes, sizes / np.array([one.seconds for one in timed]), has_dots=True)
        name = f"{case.name}: where throughput stops growing"
        ticks = tuple(map(float, sizes))
        chart = Lines(f"{case.name}-pace", name, "mini-batch", pace.name, [pace], is_x_log=True, x_ticks=ticks)
        yield Panel([chart])


def _chart(case: Case, what: str, label: str, factor: Any) -> Lines:
    """Means with their intervals over seeds, the fitted law, and where B_crit (and the noise scale) lies."""
    arms = [one for one in case.fitted if math.isfinite(factor(one))]
    intervals = [one.interval(factor(one)) for one in arms]
    sizes = np.array([float(one.size) for one in arms])
    mean, low, high = (np.array([getattr(one, at) for one in intervals]) for at in ("estimate", "low", "high"))
    # With few seeds an interval may reach below 0, which a logarithm does not bear.
    has_band = bool((low > 0).all())
    series = [
        Series("mean of the seeds", sizes, mean, low if has_band else None, high if has_band else None, has_dots=True)
    ]
    if case.law is not None and what != "seconds":
        fitted = case.law.fitted
        across = np.geomspace(fitted.low, fitted.high, 60)
        curve = np.array([fitted.updates(one) if what == "updates" else fitted.samples(one) for one in across])
        series.append(Series("fitted law", across, curve))
        for name, at in (("critical batch size", fitted.critical_size), ("noise scale", case.noise_scale)):
            if fitted.low <= at <= fitted.high:
                series.append(Series(name, np.array([at, at]), np.array([mean.min(), mean.max()])))
    title = f"{case.name}: {what} against the mini-batch"
    note = "The band is the 95 % interval of the mean." if has_band else ""
    ticks = tuple(map(float, sizes))
    return Lines(
        f"{case.name}-{what}", title, "mini-batch", label, series, note, is_x_log=True, is_y_log=True, x_ticks=ticks
    )


def _table(case: Case) -> Table:
    rows = []
    for one in case.arms:
        interval, updates = one.interval(), one.interval(1 / one.size)
        seconds = one.interval(one.seconds / one.size) if math.isfinite(one.seconds) else None
        rest = math.nan
        if case.law is not None and interval.n:
            rest = math.log(interval.estimate / case.law.fitted.samples(one.size))
        rows.append(
            [
                number(float(one.size)),
                word(", ".join(f"{rate:g}" for rate in dict.fromkeys(one.rates))),
                Value(_share(one.samples), float(np.isfinite(one.samples).mean()) if one.samples else 0.0),
                with_interval(updates),
                with_interval(interval),
                number(rest),
                word("") if seconds is None else with_interval(seconds),
                number(1e3 * one.seconds),
                word(one.why_not or "counts"),
            ]
        )
    columns = ["mini-batch", "learning rate", "reached", "updates", "samples", "log-residual", "seconds"]
    return Table([*columns, "ms an update", "in the fit"], rows)


def _share(samples: Sequence[float]) -> str:
    return percent(sum(map(math.isfinite, samples)) / len(samples)) if samples else ""


def _rates(study: Mapping[str, Any]) -> Section:
    rows = []
    for name, case in study["cases"].items():
        for arm, node in case["arms"].items():
            for length, at in node["lengths"].items():
                tried = ", ".join(f"{lr:g}: {'diverged' if one is None else f'{one:.4g}'}" for lr, one in at["tuning"])
                where = "inside the grid" if at["is_inside"] else "AT THE EDGE of the grid"
                rows.append(
                    [word(name), word(arm), number(float(length)), number(at["rate"]), word(where), word(tried)]
                )
    columns = ["case", "arm", "length, samples", "learning rate", "the best is", "score by learning rate"]
    told = (
        "Scores are the mean over tuning seeds and a standard error: samples to the target under a constant rate (more "
        "than the length where it was not reached), else the loss at the end."
    )
    return Section("Learning rates", [told], tables=[Table(columns, rows)], is_folded=True)
