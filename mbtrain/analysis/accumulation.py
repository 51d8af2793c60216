"""When accumulation pays: whole updates that were timed, weighed by the samples that their batch size needs.

To a loss, mini-batches of B need samples in proportion to 1 + B / B_crit (McCandlish et al., arXiv 1812.06162), so that
the time to it is in proportion to

    seconds of one update / B * (1 + B / B_crit)

With t_b for a micro-batch of b and t_o once an update, a micro-batches take a t_b + t_o: against stepping at each
micro-batch they pay if and only if t_o / t_b > a b / B_crit.
"""

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

# Rounds of one way, the fastest of them, that must agree within a factor before its time is known.
FASTEST, SETTLED = 3, 1.1
# Where B_crit lies when only the noise scale is known, as multiples of it: what tasks measured so far had.
FACTORS = (0.5, 10.0)
# Ways whose times differ by less are alike, and the simpler one is taken.
ALIKE = 1.05


@dataclass(frozen=True)
class Way:
    """A way to make an update: `batch_size` samples in micro-batches of at most `micro_size`; `seconds` of a whole."""

    batch_size: int
    micro_size: int
    seconds: float

    @property
    def num_micro_batches(self) -> int:
        """How many forward and backward passes it takes."""
        return -(-self.batch_size // self.micro_size)

    @property
    def is_accumulated(self) -> bool:
        """Whether there are several."""
        return self.num_micro_batches > 1

    def cost(self, critical: float) -> float:
        """Time to a loss, in units that all ways of one task share (seconds a sample); `critical` is B_crit.

        >>> Way(64, 64, 0.64).cost(64.0)
        0.02
        """
        return self.seconds / self.batch_size * (1 + self.batch_size / critical)

    def __str__(self) -> str:
        if not self.is_accumulated:
            return f"{self.batch_size:,} at once"
        return f"{self.num_micro_batches:,} x {self.micro_size:,}"


@dataclass(frozen=True)
class Parts:
    """What an update is made of: seconds of one micro-batch by its size, and seconds that it costs once."""

    micro_batch: Mapping[int, float]
    once: float


def parts_of(ways: Sequence[Way]) -> Parts:
    """The parts whose sums come closest to the times, in relative least squares, none below 0: they explain.

    >>> parts = parts_of([Way(32, 32, 0.5), Way(64, 32, 0.9), Way(128, 32, 1.7)])
    >>> round(parts.micro_batch[32], 3), round(parts.once, 3)
    (0.4, 0.1)
    """
    import numpy as np
    from scipy.optimize import nnls

    sizes = sorted({way.micro_size for way in ways})
    rows = [
        [way.batch_size / way.micro_size * (size == way.micro_size) / way.seconds for size in sizes] + [1 / way.seconds]
        for way in ways
    ]
    found, _ = nnls(np.array(rows), np.ones(len(ways)))
    return Parts(dict(zip(sizes, map(float, found[:-1]), strict=True)), float(found[-1]))


@dataclass(frozen=True)
class End:
    """One end of the range of B_crit: the best way there, and the best that does and does not accumulate."""

    critical: float
    best: Way
    accumulated: Way | None
    direct: Way | None

    @property
    def pays(self) -> bool:
        """Whether accumulation is worth its trouble: clearly faster than every mini-batch in one piece."""
        if self.accumulated is None or self.direct is None:
            return self.direct is None
        return ALIKE * self.accumulated.cost(self.critical) < self.direct.cost(self.critical)


@dataclass(frozen=True)
class Verdict:
    """The ends of the range, and the way that loses least at the worse of them against the best there."""

    low: End
    high: End
    advised: Way

    @property
    def accumulate(self) -> bool | None:
        """Whether to accumulate; None where the two ends do not agree."""
        return self.low.pays if self.low.pays == self.high.pays else None

    @property
    def is_told(self) -> bool:
        """Whether the ends agree on all of it: the way that is advised is as good as the best at both."""
        return self.accumulate is not None and self.loss <= ALIKE

    @property
    def loss(self) -> float:
        """At most how many times the best way's time the advised one takes."""
        return max(loss(self.advised, end) for end in (self.low, self.high))


def has_settled(rounds: Sequence[float]) -> bool:
    """Whether the fastest rounds agree: what disturbs a round makes it slower.

    >>> has_settled([1.0, 1.05, 3.0, 1.02]), has_settled([1.0, 1.3, 1.3])
    (True, False)
    """
    fastest = sorted(rounds)[:FASTEST]
    return len(fastest) == FASTEST and fastest[-1] <= SETTLED * fastest[0]


def undisturbed(rounds: Sequence[float]) -> float:
    """The median of the fastest rounds.

    >>> undisturbed([3.0, 1.1, 1.0, 9.0, 1.2])
    1.1
    """
    return statistics.median(sorted(rounds)[:FASTEST])


def critical_range(noise_scale: float) -> tuple[float, float]:
    """The range of B_crit, in samples, where only the noise scale (B_simple) is known.

    >>> critical_range(100.0)
    (50.0, 1000.0)
    """
    return FACTORS[0] * noise_scale, FACTORS[1] * noise_scale


def verdict(ways: Sequence[Way], low: float, high: float) -> Verdict:
    """What to do where B_crit lies between `low` and `high`: the least regret, accumulating only where it pays."""
    ends = [_end(ways, critical) for critical in (low, high)]
    accumulates = all(end.pays for end in ends)
    allowed = [way for way in ways if way.is_accumulated == accumulates] or list(ways)
    # Of those that are alike, the one with the best mean: neither end is likelier than the other.
    worst = {way: max(loss(way, end) for end in ends) for way in allowed}
    least = min(worst.values())
    near = [way for way in allowed if worst[way] <= max(ALIKE, least)]
    advised = min(near, key=lambda way: math.prod(loss(way, end) for end in ends))
    return Verdict(ends[0], ends[1], advised)


def loss(way: Way, end: End) -> float:
    """How many times the best way's time it takes where B_crit is at this end."""
    return way.cost(end.critical) / end.best.cost(end.critical)


def _end(ways: Sequence[Way], critical: float) -> End:
    def best(some: Sequence[Way]) -> Way | None:
        return min(some, key=lambda way: way.cost(critical), default=None)

    overall = best(ways)
    assert overall is not None
    accumulated = best([way for way in ways if way.is_accumulated])
    return End(critical, overall, accumulated, best([way for way in ways if not way.is_accumulated]))


@dataclass(frozen=True)
class Law:
    """Accumulating against stepping at each micro-batch: t_o / t_b on one side, a b / B_crit on the other.

    `needed` is at the low and the high end of B_crit.
    """

    once_share: float
    needed: tuple[float, float]

    @property
    def pays(self) -> bool | None:
        """Whether it pays at both ends of the range, at neither, or (None) at one of them only."""
        answers = {self.once_share > needed for needed in self.needed}
        return answers.pop() if len(answers) == 1 else None


def law(way: Way, step: Way, critical: tuple[float, float]) -> Law:
    """The law for an accumulating way and the step at each of its micro-batches, t_o and t_b from these two updates.

    >>> law(Way(256, 32, 3.3), Way(32, 32, 0.5), (100.0, 1000.0)).pays
    False
    """
    micro_batch = (way.seconds - step.seconds) / (way.num_micro_batches - 1)
    share = step.seconds / micro_batch - 1 if micro_batch > 0 else math.inf
    return Law(share, (way.batch_size / critical[0], way.batch_size / critical[1]))
