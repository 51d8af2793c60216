"""Runs as an experiment: the factors that were varied, the settings they make, the seeds that repeat a setting."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from mbtrain.analysis.runs import Found, Run
from mbtrain.analysis.score import Score

SEED = "seed"
# Keys that say where a run writes and who watches it, not what it trains.
BESIDE = {"run_dir", "sweep_dir", "study_dir", "name", "resume", "trust", "tracker", "checkpoint", "data_root"}
BESIDE |= {"probe", "sweep", "study", "trainer.progress", "trainer.threads"}
ABSENT = "-"


@dataclass(frozen=True)
class Factor:
    """What was varied: its key, its levels in order, and each run's level."""

    name: str
    levels: tuple[str, ...]
    level_of: Mapping[Path, str]

    @property
    def numbers(self) -> list[float] | None:
        """Its levels as numbers, where all are finite ones."""
        try:
            values = [float(level) for level in self.levels]
        except ValueError:
            return None
        return values if np.isfinite(values).all() else None


@dataclass(frozen=True)
class Setting:
    """One level of each factor, the runs that had them, and the score of each: nan where one diverged."""

    levels: Mapping[str, str]
    runs: tuple[Run, ...]
    scores: tuple[float, ...]

    @property
    def label(self) -> str:
        """The overrides that make it."""
        return " ".join(f"{name}={level}" for name, level in self.levels.items()) or "as configured"

    @property
    def finite(self) -> list[float]:
        """The scores of the runs that did not diverge."""
        return [one for one in self.scores if np.isfinite(one)]

    @property
    def num_diverged(self) -> int:
        """Runs that ended without a finite score."""
        return len(self.scores) - len(self.finite)


@dataclass(frozen=True)
class Experiment:
    """All runs, what was varied, and the settings of those that are done or diverged."""

    runs: tuple[Run, ...]
    score: Score
    factors: tuple[Factor, ...]
    settings: tuple[Setting, ...]
    num_repeated: int

    @property
    def done(self) -> list[tuple[Setting, Run, float]]:
        """Every run that is done and has a finite score, with its setting and score."""
        pairs = ((one, run, value) for one in self.settings for run, value in zip(one.runs, one.scores, strict=True))
        return [(one, run, value) for one, run, value in pairs if np.isfinite(value)]

    def factor(self, name: str) -> Factor | None:
        """The factor of that name."""
        return next((one for one in self.factors if one.name == name), None)


def experiment(found: Found, score: Score) -> Experiment:
    """Find factors and settings, without being told, in what the runs' configs and overrides say."""
    factors = find_factors(found)
    counted = [run for run in found.runs if run.is_counted]
    kept = _once(counted, factors)
    groups: dict[tuple[str, ...], list[Run]] = {}
    for run in kept:
        groups.setdefault(tuple(one.level_of[run.folder] for one in factors), []).append(run)
    names = [one.name for one in factors]
    settings = [
        Setting(dict(zip(names, levels, strict=True)), tuple(runs), tuple(map(score.of, runs)))
        for levels, runs in groups.items()
    ]
    return Experiment(tuple(found.runs), score, tuple(factors), tuple(settings), len(counted) - len(kept))


def find_factors(found: Found) -> list[Factor]:
    """The declared factors that vary, then further keys in which configs differ, then the sweep where all else agrees.

    Keys that always change together are one factor, named by the first.
    """
    factors = [_factor(name, found.runs, _declared(name, found.runs)) for name in found.factors if name != SEED]
    begun = [run for run in found.runs if run.config]
    for key in dict.fromkeys(key for run in begun for key in run.config):
        if key == SEED or key in BESIDE or key.split(".")[0] in BESIDE or any(_covers(one, key) for one in factors):
            continue
        own = {run.folder: text(run.config[key]) if key in run.config else ABSENT for run in found.runs}
        new = _factor(key, found.runs, own)
        if not any(_is_same(one, new, begun) for one in factors):
            factors.append(new)
    factors = [one for one in factors if len(one.levels) > 1]
    if _recur(found.runs, factors):
        factors.append(_factor("sweep", found.runs, {run.folder: run.group for run in found.runs}))
    return factors


def text(value: Any) -> str:
    """A value as on the command line; a number always in the same way.

    >>> text(None), text(True), text("1e-3"), text(0.001), text([1, 2])
    ('null', 'true', '0.001', '0.001', '[1, 2]')
    """
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    try:
        return f"{float(value):.12g}"
    except (TypeError, ValueError, OverflowError):
        return str(value)


def given(overrides: Iterable[str]) -> dict[str, str]:
    """Keys and values of overrides.

    >>> given(["batch.size=32", "+model.width=1e2"])
    {'batch.size': '32', 'model.width': '100'}
    """
    pairs = (one.lstrip("+~").partition("=") for one in overrides)
    return {key: _parsed(value) for key, _, value in pairs}


def _parsed(value: str) -> str:
    try:
        return text(yaml.safe_load(value))
    except yaml.YAMLError:
        return value


def _declared(name: str, runs: Sequence[Run]) -> dict[Path, str]:
    """Levels of a factor that a sweep names: by the override, else by the config, which holds a choice's class only."""
    levels = {}
    for run in runs:
        built = run.config.get(f"{name}._target_")
        other = run.config.get(name, ABSENT if built is None else str(built).rsplit(".", 1)[-1].lower())
        levels[run.folder] = given(run.overrides).get(name, text(other))
    return levels


def _factor(name: str, runs: Sequence[Run], level_of: Mapping[Path, str]) -> Factor:
    levels = {level_of[run.folder] for run in runs}
    return Factor(name, tuple(sorted(levels, key=_order)), level_of)


def _order(level: str) -> tuple[bool, float, str]:
    try:
        return False, float(level), level
    except ValueError:
        return True, 0.0, level


def _covers(factor: Factor, key: str) -> bool:
    return key == factor.name or key.startswith(f"{factor.name}.")


def _is_same(one: Factor, other: Factor, runs: Sequence[Run]) -> bool:
    """Whether both factors divide the runs alike."""
    pairs = {(one.level_of[run.folder], other.level_of[run.folder]) for run in runs}
    return len(pairs) == len({a for a, _ in pairs}) == len({b for _, b in pairs})


def _identity(run: Run, factors: Sequence[Factor]) -> tuple[str, ...]:
    seed = given(run.overrides).get(SEED, text(run.config.get(SEED)))
    return (seed, *(one.level_of[run.folder] for one in factors))


def _recur(runs: Sequence[Run], factors: Sequence[Factor]) -> bool:
    """Whether a run of one sweep is there again in another: then the sweep itself is what differs."""
    groups: dict[tuple[str, ...], set[str]] = {}
    for run in runs:
        groups.setdefault(_identity(run, factors), set()).add(run.group)
    return any(len(names) > 1 for names in groups.values())


def _once(runs: Sequence[Run], factors: Sequence[Factor]) -> list[Run]:
    """One run of each setting and seed: the same run twice is no second seed."""
    return list({_identity(run, factors): run for run in reversed(runs)}.values())[::-1]
