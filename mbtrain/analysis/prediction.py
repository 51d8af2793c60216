"""What the law of updates predicts of the arms of a race, and what their runs took to the same losses.

The law is fitted on the arms that take their mini-batch in one piece (the reference, and `direct_...`); it predicts the
ratio of mean times to a loss of every arm over the reference. Arms bear the names of `conf/study/accumulation.yaml`.
"""

import math
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from mbtrain.analysis.accumulation import Way, parts_of
from mbtrain.analysis.hyperbola import Accumulation, Law, law
from mbtrain.analysis.reaching import crossing
from mbtrain.analysis.statistics import Interval, ratio_interval
from mbtrain.analysis.table import percent
from mbtrain.analysis.trajectory import Trajectory

DIRECT, ACCUMULATED = "direct_", "accumulate_"
# Targets, easiest first: the reference's mean loss after these shares of its samples, and these quantiles of its losses
# at the end. Where the time is equal, arms that are behind do not get to the latter: those on the way can be compared.
SHARES = (0.25, 0.5)
QUANTILES = (0.75, 0.5, 0.25)


@dataclass(frozen=True)
class Racer:
    """An arm on its way to a target: samples to it of each seed (nan: not reached), seconds of a whole update."""

    name: str
    size: int
    seconds: float
    samples: tuple[float, ...]
    is_inside: bool

    @property
    def num_reached(self) -> int:
        """Runs that got there."""
        return sum(map(math.isfinite, self.samples))

    @property
    def has_arrived(self) -> bool:
        """Whether all of them did: the mean of those that did says too little."""
        return 0 < len(self.samples) == self.num_reached


@dataclass(frozen=True)
class Reading:
    """The arms of a case on their way to one target, and the law through those that count; None without one."""

    case: str
    place: str
    target: float
    reference: Racer
    racers: tuple[Racer, ...]
    law: Law | None

    def is_fitted(self, racer: Racer) -> bool:
        """Whether an arm is one of those that the law goes through."""
        return _counts(racer, self.reference.name)

    @property
    def is_tested(self) -> bool:
        """Whether the law could miss the arms that it goes through: it meets two sizes by itself."""
        own = (self.reference, *self.racers)
        return len({one.size for one in own if self.is_fitted(one)}) > 2

    def predicted(self, racer: Racer) -> Interval | None:
        """The ratio of mean times over the reference, by the law and the seconds of an update of both."""
        if self.law is None:
            return None
        return self.law.ratio(racer.size, self.reference.size, seconds=self._seconds(racer))

    def observed(self, racer: Racer) -> Interval | None:
        """The same from the runs, with the same seconds; None where a run of either arm did not get there."""
        if not (racer.has_arrived and self.reference.has_arrived):
            return None
        seconds, ratio = self._seconds(racer), ratio_interval(racer.samples, self.reference.samples)
        return replace(ratio, estimate=seconds * ratio.estimate, low=seconds * ratio.low, high=seconds * ratio.high)

    def accumulation(self) -> Accumulation | None:
        """What a micro-batch and what an update costs, from the reference and the arms that accumulate; None of none.

        A micro-batch has as many samples as the reference's mini-batch.
        """
        size = self.reference.size
        own = [self.reference, *(one for one in self.racers if one.name.startswith(ACCUMULATED))]
        if len(own) < 2:
            return None
        parts = parts_of([Way(one.size, size, one.seconds) for one in own])
        return Accumulation(size, parts.micro_batch[size], parts.once) if parts.micro_batch[size] else None

    def _seconds(self, racer: Racer) -> float:
        """The ratio of seconds a sample."""
        return (racer.seconds / racer.size) / (self.reference.seconds / self.reference.size)


def readings(study: Mapping[str, Any], runs: Mapping[str, Trajectory]) -> Iterator[Reading]:
    """The cases whose arms were timed and have one that is direct, under a constant rate, at each target.

    Where the rate moves with the run's length, a run on its way is not what a shorter one would have been.
    """
    for name, case in study["cases"].items():
        is_direct = any(arm.startswith(DIRECT) for arm in case["runs"])
        if is_direct and case["schedule"] == "constant" and case["seconds_per_iteration"]:
            own = [runs[one] for one in case["runs"][study["reference"]]]
            for place, target in targets(own).items():
                yield _reading((name, place, target), case, study["reference"], runs)


def targets(own: Sequence[Trajectory]) -> dict[str, float]:
    """Losses that a race is read at, by where the reference's runs have them; none where it was not validated yet.

    >>> targets([Trajectory((1, 2, 4), (10, 20, 40), (1.0, 0.5, 0.4))])["after 50 %"]
    0.5
    """
    finished = [one for one in own if math.isfinite(one.final)]
    if not finished:
        return {}
    samples = min(one.samples[-1] for one in finished)
    found = {
        f"after {percent(share)}": statistics.fmean(one.at_samples(round(share * samples)) for one in finished)
        for share in SHARES
    }
    ends = np.quantile([one.final for one in finished], QUANTILES)
    found |= {f"{percent(at)} ended below": float(end) for at, end in zip(QUANTILES, ends, strict=True)}
    return {place: target for place, target in found.items() if math.isfinite(target)}


def _reading(
    at: tuple[str, str, float], case: Mapping[str, Any], reference: str, runs: Mapping[str, Trajectory]
) -> Reading:
    racers = {
        arm: Racer(
            arm,
            case["batch_sizes"][arm],
            statistics.median(case["seconds_per_iteration"][arm]),
            tuple(crossing(runs[one], at[2]) for one in folders),
            # An arm that takes another's rate has no grid of its own.
            case["is_inside"].get(arm, True),
        )
        for arm, folders in case["runs"].items()
    }
    counted = [one for one in racers.values() if _counts(one, reference)]
    by_size = {one.size: one.samples for one in counted}
    others = tuple(one for arm, one in racers.items() if arm != reference)
    return Reading(*at, racers[reference], others, law(by_size) if len(by_size) > 1 else None)


def _counts(racer: Racer, reference: str) -> bool:
    is_plain = racer.name == reference or racer.name.startswith(DIRECT)
    return is_plain and racer.has_arrived and racer.is_inside


def ratios(read: Sequence[Reading], *, fitted: bool) -> list[tuple[float, float]]:
    """(predicted, observed) of every arm, on every target, that has both: of those that a fit could miss, or others."""
    found = []
    for one in read:
        for racer in one.racers:
            predicted, observed = one.predicted(racer), one.observed(racer)
            if predicted is not None and observed is not None and _is_listed(one, racer, fitted):
                found.append((predicted.estimate, observed.estimate))
    return found


def _is_listed(one: Reading, racer: Racer, fitted: bool) -> bool:
    return one.is_fitted(racer) == fitted and (one.is_tested or not fitted)
