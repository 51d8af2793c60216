"""The page of a study: one sentence a case, the contrasts with their intervals, what was tuned and timed."""

import math
import statistics
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import orjson

from mbtrain.analysis.charts import DotRow, Dots, Panel
from mbtrain.analysis.comparisons import SPOKEN, Contrast, comparisons_table, contrasts
from mbtrain.analysis.overview import overview
from mbtrain.analysis.page import Page, html, markdown
from mbtrain.analysis.prediction_section import prediction_section
from mbtrain.analysis.section import Section
from mbtrain.analysis.statistics import finite_mean_interval
from mbtrain.analysis.study_sections import columns_section, sensitivity_section
from mbtrain.analysis.table import Table, number, spoken, word
from mbtrain.analysis.trajectory import Trajectory, trajectories
from mbtrain.log.files import replace

# What each answer says between the two arms.
VERBS = {
    "helps": "helps against",
    "hurts": "hurts against",
    "equal within the margin": "is equal within the margin to",
    "cannot tell": "cannot be told from",
}
PRIMARY = "The primary contrast was fixed in advance; every other comparison explores, and its p values are Holm's."
TIMED = "Times are those of the calibration, one run at a time; the runs themselves shared the machine."


def write_study(study_dir: Path) -> tuple[Path, list[str]]:
    """Write report.html, and report/study.md with its figures; the page's path, and the answer a sentence a case."""
    study = orjson.loads((study_dir / "study.json").read_bytes())
    if study["budget"] == "target":
        from mbtrain.analysis.target_study import write_target_study

        return write_target_study(study_dir)
    runs = trajectories(study_dir, study)
    found = list(contrasts(study, runs))
    answers = [_sentence(one, study) for one in found if one.is_primary]
    page = Page(study["name"], subtitle(study), answers, list(_sections(study, found, runs)), list(_limits(study)))
    return save(page, study_dir), answers


def save(page: Page, study_dir: Path) -> Path:
    """Write a study's page, and beside it the same as text with figures; the page's path."""
    beside = study_dir / "report"
    beside.mkdir(exist_ok=True)
    from mbtrain.analysis import png

    png.save(page.pictures, beside / "figures")
    replace(beside / "study.md", markdown(page).encode())
    replace(study_dir / "report.html", html(page).encode())
    return study_dir / "report.html"


def subtitle(study: Mapping[str, Any]) -> str:
    """The question, the command, the commit, the versions."""
    git = study["git"]
    changed = " with changes" if git and git["is_changed"] else ""
    commit = f"commit {git['commit'][:12]}{changed}" if git else "outside a repository"
    versions = ", ".join(f"{name} {version}" for name, version in study["versions"].items())
    where = f"{commit}; {versions}; {study['cores']} cores"
    return f"{study['question']} {study['command']}; {where}"


def _sentence(one: Contrast, study: Mapping[str, Any]) -> str:
    """The answer of a case: what, by how much, how sure.

    Loss is validation loss; smaller is better.
    """
    decision, size = one.decision, study["cases"][one.case]["batch_sizes"]
    arms = [finite_mean_interval(one.losses[name]) for name in (one.arm, one.against)]
    told = (
        f"{one.case}: {one.arm} (batch {size[one.arm]}) {VERBS[decision.answer]} {one.against} "
        f"(batch {size[one.against]}) at {SPOKEN[one.budget]}: validation loss {spoken(arms[0])} against "
        f"{spoken(arms[1])}, difference {spoken(decision.difference)}"
    )
    if decision.answer == "cannot tell":
        seeds = "" if decision.seeds_needed is None else f"; about {decision.seeds_needed:,} seeds an arm would tell"
        told += f" ({decision.reason}{seeds})"
    return told + "."


def _limits(study: Mapping[str, Any]) -> Iterator[str]:
    spoken = SPOKEN[study["budget"]]
    yield (
        "The answer belongs to this device, these models and data, and this length of training, with learning rates "
        f"that were tuned at {spoken}."
    )
    yield from study["limits"]
    moving = [name for name, case in study["cases"].items() if case["also"]]
    if moving:
        yield (
            f"In {', '.join(moving)} the learning rate moves with the run's length: every other budget has runs of its "
            f"own, with the rate tuned at {spoken}."
        )
    yield PRIMARY
    if study["budget"] == "time":
        yield TIMED
    unsteady = [name for name, case in study["cases"].items() if not case["is_steady"]]
    if unsteady:
        yield (
            f"Something else kept the machine busy while {', '.join(unsteady)} was timed: equal time is doubtful "
            "there. The table of times has the rounds."
        )


def _sections(study: Mapping[str, Any], found: Sequence[Contrast], runs: Mapping[str, Trajectory]) -> Iterator[Section]:
    at_one_look = overview(study, found)
    if at_one_look is not None:
        yield at_one_look
    yield Section(
        "The comparisons",
        [
            f"Loss is validation loss, smaller is better. Equal means within {study['margin']:.0%} of the other arm's "
            "mean loss (TOST); helps and hurts are Welch's test at 5 %. The first arm is compared with the second."
        ],
        tables=[comparisons_table(found)],
    )
    for name in study["cases"]:
        mine = [one for one in found if one.case == name]
        yield Section(name, [" ".join(study["cases"][name]["overrides"])], panels=list(_panels(mine)))
    losses = {one.case: one.losses for one in found if one.budget == study["budget"]}
    beside = columns_section(study, runs, losses)
    if beside is not None:
        yield beside
    foreseen = prediction_section(study, runs)
    if foreseen is not None:
        yield foreseen
    yield sensitivity_section(study)
    if study["budget"] == "time":
        yield Section("Time", ["Medians over rounds, one run at a time, arms alternating."], tables=[_times(study)])


def _panels(found: Sequence[Contrast]) -> Iterator[Panel]:
    charts = []
    by_budget = {one.budget: one.losses for one in found}
    for budget, losses in by_budget.items():
        rows = []
        for arm, values in losses.items():
            interval, finite = finite_mean_interval(values), [value for value in values if math.isfinite(value)]
            rows.append(
                DotRow(arm, finite, interval.estimate, interval.low, interval.high, f"{arm}: {spoken(interval)}")
            )
        charts.append(
            Dots(f"{found[0].case}-{budget}", f"{found[0].case} at {SPOKEN[budget]}", "validation loss", rows)
        )
    yield Panel(charts, [SPOKEN[budget] for budget in by_budget])


def _times(study: Mapping[str, Any]) -> Table:
    rows = []
    for name, case in study["cases"].items():
        for arm, rounds in case["seconds_per_iteration"].items():
            seconds, size = statistics.median(rounds), case["batch_sizes"][arm]
            spread = f"{1e3 * min(rounds):.2f} to {1e3 * max(rounds):.2f}"
            iterations = int(case["durations"][arm].removesuffix("it"))
            numbers = (1e3 * seconds, 1e6 * seconds / size, float(iterations), float(iterations * size))
            rows.append([word(name), word(arm), *map(number, numbers[:2]), word(spread), *map(number, numbers[2:])])
    columns = [
        "case",
        "arm",
        "ms an iteration",
        "us a sample",
        "rounds, ms",
        "iterations in the time",
        "samples in the time, at most",
    ]
    return Table(columns, rows)
