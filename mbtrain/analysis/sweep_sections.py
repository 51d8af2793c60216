"""The sections about many runs: what matters, settings, curves, what is open, failures, all runs."""

import math
import shlex
from collections.abc import Sequence

from mbtrain.analysis.charts import Panel
from mbtrain.analysis.curves import Logs
from mbtrain.analysis.experiment import ABSENT, SEED, Experiment, Setting, given, text
from mbtrain.analysis.findings import ALPHA, BROKEN, Findings, conclude, interval
from mbtrain.analysis.run_sections import config
from mbtrain.analysis.section import Section
from mbtrain.analysis.sentences import open_questions
from mbtrain.analysis.statistics import difference_interval
from mbtrain.analysis.sweep_charts import curves, heat_map, sensitivity, settings_chart
from mbtrain.analysis.table import Table, Value, level, number, percent, probability, spoken, with_interval, word

# More rows than this stand in results.csv only.
MOST_ROWS = 1000
# What the command that repeats a setting leaves out: seeds it has already, and where the runs were written.
NOT_AGAIN = {SEED, "sweep_dir", "run_dir"}


def sections(findings: Findings, logs: Logs) -> list[Section]:
    """Everything that is told of a sweep, or of several."""
    parts = [_failures(findings.experiment), _matters(findings), _settings(findings), _curves(findings, logs)]
    parts += [_open(findings), _all_runs(findings.experiment), _shared_config(findings.experiment)]
    return [one for one in parts if one.panels or one.tables or one.text]


def compared(groups: Sequence[tuple[str, Experiment]]) -> Section:
    """Several sweeps side by side: the best setting of each."""
    found = sorted(((name, conclude(one)) for name, one in groups), key=_rank)
    rows = [_group_row(name, one) for name, one in found]
    key, test = groups[0][1].score.key, groups[0][1].score.test
    told = []
    chosen = [(name, one.best) for name, one in found if one.best is not None]
    if len(chosen) > 1:
        (first, a), (second, b) = chosen[:2]
        of_a, of_b = ([test.of(run) for run in one.runs if math.isfinite(test.of(run))] for one in (a, b))
        difference = difference_interval(of_b, of_a)
        if difference.has_bounds:
            told = [
                f"{test.spoken.capitalize()} of {second} less that of {first}: {spoken(difference)}, each at its best."
            ]
    columns = ["sweep", "runs done", "best setting", key, test.key]
    return Section("The sweeps compared", told, tables=[Table(columns, rows, "Chosen by the first score.")])


def _rank(pair: tuple[str, Findings]) -> float:
    best = pair[1].best
    return math.inf if best is None else pair[1].experiment.score.badness(interval(best.scores).estimate)


def _group_row(name: str, findings: Findings) -> list[Value]:
    done = float(len(findings.experiment.done))
    if findings.best is None:
        return [word(name), number(done), word("none"), number(math.nan), number(math.nan)]
    return [word(name), number(done), word(findings.best.label), *_scores(findings.best, findings.experiment)]


def _matters(findings: Findings) -> Section:
    charts = [one for one in (sensitivity(findings), heat_map(findings)) if one is not None]
    tables = [_shares_table(findings)] if findings.shares is not None else []
    return Section("Which factors matter", (), [Panel([one]) for one in charts], tables)


def _shares_table(findings: Findings) -> Table:
    shares = findings.shares
    assert shares is not None
    rows = []
    for one in shares.effects:
        verdict = "it matters" if one.p_holm <= ALPHA else "not shown to matter"
        p = Value(probability(one.p_holm), one.p_holm)
        rows.append([word(one.name), Value(percent(one.share), one.share, one.share), p, word(verdict)])
    is_repeated = not math.isnan(shares.chance)
    if len(shares.effects) > 1:
        name = "the factors together" if is_repeated else "the factors together, and chance"
        rows.append([word(name), Value(percent(shares.together), shares.together, shares.together), word(""), word("")])
    if is_repeated:
        rows.append(
            [word("chance (the seed)"), Value(percent(shares.chance), shares.chance, shares.chance), word(""), word("")]
        )
    note = (
        f"Share of the variance of {findings.experiment.score.key} over {shares.num_runs} runs that each factor "
        "explains by itself; p: permutation test within the settings of the other factors, after Holm."
    )
    return Table(["factor", "share", "p", "verdict"], rows, note)


def _settings(findings: Findings) -> Section:
    experiment = findings.experiment
    if not experiment.settings:
        return Section("Settings")
    order = [*findings.ranking, *(one for one in experiment.settings if one not in findings.ranking)]
    rivals = {one.setting.label: one for one in findings.rivals}
    rows = []
    for one in order[:MOST_ROWS]:
        rival = rivals.get(one.label)
        p = Value(probability(rival.p), rival.p) if rival and not math.isnan(rival.p) else number(math.nan)
        difference = (
            with_interval(rival.difference)
            if rival
            else word("best" if one is findings.best else "diverged" if one.num_diverged else "few seeds")
        )
        rows.append([*(level(one.levels[name]) for name in one.levels), *_scores(one, experiment), difference, p])
    names = [factor.name for factor in experiment.factors]
    columns = [*names, experiment.score.key, experiment.score.test.key, "less the best", "p"]
    note = (
        "Means with 95 % intervals and the number of seeds n. The best is chosen by the first score; the test score "
        "only tells what it came to. p: Welch's test against the best, "
        "after Bonferroni over all settings, and so is the level of the difference's interval."
    )
    panels = [Panel([settings_chart(findings)])] if findings.ranking else []
    return Section("Settings", _command(findings), panels, [Table(columns, rows, note)])


def _command(findings: Findings) -> list[str]:
    if findings.best is None or not findings.best.levels:
        return []
    overrides = [one for one in findings.best.runs[0].overrides if one.partition("=")[0] not in NOT_AGAIN]
    if not overrides:
        return [f"The best has {findings.best.label}."]
    return [f"The best again, with further seeds: mbtrain -m {shlex.join(overrides)} seed=10,11,12,13,14"]


def _scores(setting: Setting, experiment: Experiment) -> list[Value]:
    tests = [value for run in setting.runs if math.isfinite(value := experiment.score.test.of(run))]
    return [with_interval(interval(setting.scores)), with_interval(interval(tests))]


def _curves(findings: Findings, logs: Logs) -> Section:
    panels = curves(findings, logs)
    factors = findings.experiment.factors
    which = "The best setting at each level of the factor that explains most." if len(factors) > 1 and panels else ""
    return Section("Curves", [which] if which else (), panels)


def _open(findings: Findings) -> Section:
    rows = [
        [
            word(one.setting.label),
            with_interval(one.difference),
            word("more than 1,000") if one.seeds_needed is None else number(float(one.seeds_needed)),
        ]
        for one in findings.open_rivals[:MOST_ROWS]
    ]
    columns = ["not ruled out as the best", "mean less the best's", "seeds each that would"]
    note = "Seeds that would show a difference as large as the one observed, in 80 % of cases, at the same strictness."
    has_seeds = findings.is_repeated and rows
    tables = [Table(columns, rows, note)] if has_seeds else []
    return Section("What could not be concluded", open_questions(findings), tables=tables)


def _failures(experiment: Experiment) -> Section:
    broken = [run for run in experiment.runs if run.status in BROKEN]
    rows = [
        [word(run.name), word(run.status), word(run.message or "no message"), word(" ".join(run.overrides))]
        for run in broken
    ]
    return Section(
        "Runs that did not end well", tables=[Table(["run", "status", "message", "overrides"], rows)] if rows else []
    )


def _all_runs(experiment: Experiment) -> Section:
    names, score = [factor.name for factor in experiment.factors], experiment.score
    rows = []
    for run in experiment.runs[:MOST_ROWS]:
        levels = [level(factor.level_of[run.folder]) for factor in experiment.factors]
        seed = level(given(run.overrides).get(SEED, text(run.config.get(SEED, ABSENT))))
        seconds = run.result.get("seconds")
        last = number(float(seconds)) if isinstance(seconds, int | float) else number(math.nan)
        scores = [number(score.of(run)), number(score.test.of(run))]
        rows.append([word(run.name), word(run.status), *levels, seed, *scores, last])
    note = (
        ""
        if len(rows) == len(experiment.runs)
        else f"The first {len(rows):,} of {len(experiment.runs):,}; results.csv has all."
    )
    columns = ["run", "status", *names, SEED, score.key, score.test.key, "seconds"]
    return Section("All runs", tables=[Table(columns, rows, note)], is_folded=True)


def _shared_config(experiment: Experiment) -> Section:
    """The keys in which no two runs differ."""
    configs = [run.config for run in experiment.runs if run.config]
    if not configs:
        return Section("Config")
    same = {key: value for key, value in configs[0].items() if all(one.get(key, ABSENT) == value for one in configs)}
    return config(same, "Config that all runs share")
