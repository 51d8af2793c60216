"""Findings in plain English: the first lines of a report, and what it leaves open."""

import math

import numpy as np

from mbtrain.analysis.experiment import Factor
from mbtrain.analysis.findings import ALPHA, BROKEN, Findings, interval
from mbtrain.analysis.runs import Run
from mbtrain.analysis.score import Score, written
from mbtrain.analysis.table import percent, probability, spoken


def lead(findings: Findings) -> list[str]:
    """Two or three sentences that answer what the runs show."""
    told = [_best(findings), _matters(findings), _told_apart(findings), _problems(findings), *_lost(findings)]
    return [one for one in told if one]


def lead_of_run(run: Run, score: Score) -> list[str]:
    """The same of a single run."""
    result = run.result
    if not result:
        return [f"The run is {run.status}" + (f": {run.message}." if run.message else " and has no validation yet.")]
    reached = [f"{one.spoken} {written(one.of(run))}" for one in (score, score.test) if one.key in result]
    length = f"{result.get('iterations', result.get('iteration', 0)):,} iterations"
    seconds = result.get("seconds")
    if isinstance(seconds, int | float):
        length += f" in {seconds:,.1f} s ({result.get('samples_per_s') or 0:,.0f} samples a second)"
    told = [f"{run.name} reached {' and '.join(reached) or 'no score'} after {length}."]
    if run.status != "done":
        told.append(f"It is {run.status}" + (f": {run.message}." if run.message else "."))
    else:
        told.append("This is one run: without other seeds there is no interval, and no comparison can be made.")
    return told


def open_questions(findings: Findings) -> list[str]:
    """What could not be concluded, with the cure."""
    told = []
    if findings.best is not None and not findings.is_repeated:
        told.append(
            "Every setting ran once, so nothing says how much of a difference is chance: repeat with seed=0,1,2,3,4."
        )
    told += [
        f"The best {factor.name} is the {end} that was tried ({findings.best.levels[factor.name]}): "
        f"the optimum may lie outside, try {_beyond(factor, end)}."
        for factor, end in findings.edges()
        if findings.best is not None
    ]
    if findings.shares is not None:
        quiet = [one for one in findings.shares.effects if one.p_holm > ALPHA]
        told += [
            f"No effect of {one.name} by itself was shown (p = {probability(one.p_holm)}); that is not a proof of none."
            for one in quiet
        ]
    num_diverged = sum(one.num_diverged for one in findings.experiment.settings)
    if num_diverged:
        told.append(f"{_runs(num_diverged)} ended without a finite score; settings with such a run were not chosen.")
    if findings.experiment.num_repeated:
        told.append(f"{_runs(findings.experiment.num_repeated)} repeat another's setting and seed and count once.")
    return told


def _best(findings: Findings) -> str:
    best, score = findings.best, findings.experiment.score
    if best is None:
        return "No run is done and has a finite score, so there is nothing to compare yet."
    told = interval(best.scores)
    tests = [score.test.of(run) for run in best.runs]
    tested = (
        ""
        if score.key.startswith("test/") or np.isnan(tests).any()
        else f"; {score.test.spoken} {spoken(interval(tests))}"
    )
    if len(findings.experiment.settings) == 1:
        return f"{best.label}: {score.spoken} {spoken(told)}{tested}."
    which = f"Of {len(findings.experiment.settings)} settings, {best.label} has the best mean {score.spoken}"
    return f"{which}: {spoken(told)}{tested}."


def _matters(findings: Findings) -> str:
    shares = findings.shares
    if shares is None:
        return ""
    alone = [f"{one.name} explains {percent(one.share)}" for one in shares.effects[:3]]
    told = f"Of the differences in {findings.experiment.score.spoken}, {', '.join(alone)}"
    has_joint = len(shares.effects) > 1 and shares.together > 0.05
    if has_joint and not math.isnan(shares.chance):
        told += f", their combination {percent(shares.together)}"
    if not math.isnan(shares.chance):
        told += f" and the seed {percent(shares.chance)}"
    elif len(shares.effects) > 1:
        told += f"; the rest, {percent(shares.together)}, is their combination or chance"
    if has_joint and shares.together > max(one.share for one in shares.effects) and not math.isnan(shares.chance):
        told += ": the best value of one depends on the other" + ("s" if len(shares.effects) > 2 else "")
    return told + "."


def _told_apart(findings: Findings) -> str:
    undecided = findings.open_rivals
    if not findings.rivals:
        return ""
    if not findings.is_repeated:
        return "Each setting ran once: without further seeds none can be told apart from the best."
    if not undecided:
        return "Every other setting is worse beyond chance."
    closest = undecided[0]
    if len(findings.rivals) == 1:
        told, name = "The next one may be as good: the difference is within chance", "the two"
    else:
        told = (
            f"{len(undecided)} of the other {len(findings.rivals)} may be as good: their differences are within chance"
        )
        name = f"the next one ({closest.setting.label})"
    if closest.seeds_needed is not None:
        return f"{told}; to separate {name}, about {closest.seeds_needed:,} seeds each would do."
    return (
        f"{told}; {name} {'are' if name == 'the two' else 'is'} so close that no reasonable number of seeds would do."
    )


def _problems(findings: Findings) -> str:
    runs = findings.experiment.runs
    broken = [run for run in runs if run.status in BROKEN]
    unfinished = [run for run in runs if run.status not in (*BROKEN, "done")]
    told = []
    if broken:
        told.append(f"{len(broken)} of {_runs(len(runs))} did not end well")
    if unfinished:
        told.append(f"{_runs(len(unfinished))} of {len(runs)} are not done yet")
    return " and ".join(told) + "." if told else ""


def _lost(findings: Findings) -> list[str]:
    """Levels that no run survived, which the shares cannot count: three at most, the rest is in the tables."""
    if findings.best is None:
        return []
    return [f"No run with {name}={level} has a score ({_runs(n)})." for name, level, n in findings.lost_levels()[:3]]


def _beyond(factor: Factor, end: str) -> str:
    numbers = factor.numbers or []
    ratio = numbers[1] / numbers[0] if end == "smallest" else numbers[-1] / numbers[-2]
    if min(numbers) <= 0:
        return f"{'smaller' if end == 'smallest' else 'larger'} ones"
    beyond = numbers[0] / ratio if end == "smallest" else numbers[-1] * ratio
    return f"{factor.name}={beyond:.2g}" if beyond < 1 else f"{factor.name}={round(beyond)}"


def _runs(count: int) -> str:
    return "1 run" if count == 1 else f"{count} runs"
