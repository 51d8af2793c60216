"""What an experiment shows: the best setting, what could not be told apart from it, which factors matter."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

from mbtrain.analysis.contrast import welch
from mbtrain.analysis.effects import Shares, shares
from mbtrain.analysis.experiment import Experiment, Factor, Setting
from mbtrain.analysis.power import seeds_needed
from mbtrain.analysis.statistics import Interval, difference_interval, finite_mean_interval

ALPHA = 0.05
# Statuses of runs that did not end well.
BROKEN = ("failed", "killed", "interrupted")
# Beyond this nobody runs them: the difference is then too small to matter.
MANY_SEEDS = 1000


@dataclass(frozen=True)
class Rival:
    """A setting beside the best: its mean less the best's, its p (nan with one seed), seeds that would tell.

    The interval is at the level that excludes 0 exactly where p <= ALPHA.
    """

    setting: Setting
    difference: Interval
    p: float
    seeds_needed: int | None

    @property
    def is_ruled_out(self) -> bool:
        """Whether it is worse than the best beyond chance: the rest hold the truly best in 95 % of sweeps."""
        return self.p <= ALPHA


@dataclass(frozen=True)
class Findings:
    """The conclusions; `ranking` holds the settings that may be chosen, best first."""

    experiment: Experiment
    ranking: tuple[Setting, ...]
    rivals: tuple[Rival, ...]
    shares: Shares | None

    @property
    def best(self) -> Setting | None:
        """The setting of the best mean score, if any run is done."""
        return self.ranking[0] if self.ranking else None

    @property
    def is_repeated(self) -> bool:
        """Whether any setting has more than one run."""
        return any(len(one.scores) > 1 for one in self.experiment.settings)

    @property
    def open_rivals(self) -> list[Rival]:
        """Settings that could not be ruled out as the best."""
        return [one for one in self.rivals if not one.is_ruled_out]

    def lost_levels(self) -> list[tuple[str, str, int]]:
        """(factor, level, runs) where every run of the level broke or diverged: no score tells of it."""
        runs = [run for run in self.experiment.runs if run.status in (*BROKEN, "done")]
        scored = {run.folder for _, run, _ in self.experiment.done}
        found = []
        for factor in self.experiment.factors:
            for level in factor.levels:
                own = [run.folder for run in runs if factor.level_of[run.folder] == level]
                if own and not scored.intersection(own):
                    found.append((factor.name, level, len(own)))
        return found

    def edges(self) -> list[tuple[Factor, str]]:
        """Numbers whose best level is the smallest or largest tried, of three or more: the optimum may lie outside."""
        found = []
        for factor in self.experiment.factors:
            if self.best is not None and factor.numbers is not None and len(factor.levels) >= 3:
                own = self.best.levels[factor.name]
                if own in (factor.levels[0], factor.levels[-1]):
                    found.append((factor, "smallest" if own == factor.levels[0] else "largest"))
        return found


def conclude(experiment: Experiment) -> Findings:
    """Choose by the mean of the score, among settings without a diverged run and with half the seeds at least."""
    most = max((len(one.scores) for one in experiment.settings), default=0)
    candidates = [one for one in experiment.settings if not one.num_diverged and 2 * len(one.scores) >= most]
    ranking = sorted(candidates, key=lambda one: experiment.score.badness(float(np.mean(one.scores))))
    rivals = _rivals(experiment, ranking) if ranking else []
    return Findings(experiment, tuple(ranking), tuple(rivals), _shares(experiment))


def interval(values: Sequence[float]) -> Interval:
    """The mean of scores with its interval, diverged runs left out."""
    return finite_mean_interval(values)


def _shares(experiment: Experiment) -> Shares | None:
    done = experiment.done if experiment.factors else []
    levels = {one.name: [one.level_of[run.folder] for _, run, _ in done] for one in experiment.factors}
    # A factor of which one level is left (the runs of the others failed) has nothing to be compared with.
    varied = {name: own for name, own in levels.items() if len(set(own)) > 1}
    return shares([value for _, _, value in done], varied) if varied and len(done) >= 3 else None


def _rivals(experiment: Experiment, ranking: Sequence[Setting]) -> list[Rival]:
    """Each setting against the best, by Welch's test and Bonferroni over the k - 1 comparisons.

    The observed best was picked by the same scores; the claim holds nevertheless: the truly best setting is ruled out
    only if one of its own k - 1 comparisons goes wrong (the argument of J. C. Hsu, Ann. Statist. 12:1136, 1984).
    """
    best, others = ranking[0], ranking[1:]
    alpha = ALPHA / max(1, len(others))
    return [
        Rival(
            one,
            difference_interval(one.scores, best.scores, level=1 - alpha),
            float(np.minimum(1, welch(one.scores, best.scores).p * len(others))),
            _needed(one, best, alpha=alpha),
        )
        for one in others
    ]


def _needed(one: Setting, other: Setting, *, alpha: float) -> int | None:
    """Seeds of each that show a difference as large as the observed one with 80 % power; None for too many."""
    if min(len(one.scores), len(other.scores)) < 2:
        return None
    difference = abs(float(np.mean(one.scores) - np.mean(other.scores)))
    sd = math.sqrt((np.var(one.scores, ddof=1) + np.var(other.scores, ddof=1)) / 2)
    if sd == 0:
        return 1 + min(len(one.scores), len(other.scores))
    # The normal approximation first: the exact search is slow where the answer is absurd.
    reach = NormalDist().inv_cdf(1 - alpha / 2) + NormalDist().inv_cdf(0.8)
    if difference == 0 or 2 * (reach * sd / difference) ** 2 > MANY_SEEDS:
        return None
    # What was there did not do: it takes one more at least.
    return max(1 + min(len(one.scores), len(other.scores)), seeds_needed(difference, sd, alpha=alpha))
