"""The law of large-batch training: updates to a target = S_min (1 + B_crit / B) (McCandlish et al., arXiv 1812.06162).

In samples: E_min + S_min B, with E_min = B_crit S_min. Half of what a small mini-batch learns from a sample is lost at
B_crit, the critical batch size. It belongs to a protocol: optimizer, learning-rate schedule, target, tuning.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mbtrain.analysis.statistics import Interval

NUM_DRAWS = 2000
SEED = 0
# B_crit is looked for from so far below the smallest mini-batch to so far above the largest.
REACH = 100.0
NUM_POINTS = 200
# Closer to the end of that than this, in logarithm, there is no bend to be seen.
NEAR = 0.05


@dataclass(frozen=True)
class Hyperbola:
    """A fitted law: B_crit in samples, S_min in updates, the rms residual of log updates, the range it was fitted on.

    >>> law = Hyperbola(critical_size=100.0, least_updates=50.0, residual=0.0, low=10, high=1000)
    >>> law.updates(100), law.samples(100), law.least_samples
    (100.0, 10000.0, 5000.0)
    """

    critical_size: float
    least_updates: float
    residual: float
    low: float
    high: float

    @property
    def least_samples(self) -> float:
        """E_min: the samples of the smallest mini-batches."""
        return self.critical_size * self.least_updates

    @property
    def is_bent(self) -> bool:
        """Whether the data show a bend: B_crit is not at an end of where it was looked for."""
        ends = math.log(self.low / REACH), math.log(self.high * REACH)
        return ends[0] + NEAR < math.log(self.critical_size) < ends[1] - NEAR

    def updates(self, batch_size: float) -> float:
        """Updates to the target."""
        return self.least_updates * (1 + self.critical_size / batch_size)

    def samples(self, batch_size: float) -> float:
        """Samples to the target."""
        return self.least_updates * (self.critical_size + batch_size)

    def holds(self, batch_size: float) -> bool:
        """Whether a mini-batch lies within the range that was fitted; beyond it, a prediction extrapolates."""
        return self.low <= batch_size <= self.high


def fit(batch_sizes: ArrayLike, samples: ArrayLike) -> Hyperbola:
    """The law through the samples to the target of each mini-batch, by least squares of log updates.

    Raises ValueError with fewer than two sizes.
    """
    return fits(batch_sizes, np.asarray(samples, dtype=np.float64)[None])[0]


def fits(batch_sizes: ArrayLike, samples: NDArray[np.float64]) -> list[Hyperbola]:
    """The law through each row of `samples` (rows, sizes).

    For a given B_crit the best log S_min is a mean; B_crit is the lowest point of a grid in its logarithm, then of the
    parabola through it and its neighbours, twice.
    """
    sizes = np.asarray(batch_sizes, dtype=np.float64)
    if len(np.unique(sizes)) < 2:
        raise ValueError("a hyperbola needs two batch sizes")
    logs = np.log(samples / sizes)
    low, high = math.log(sizes.min() / REACH), math.log(sizes.max() * REACH)
    grid = np.linspace(low, high, NUM_POINTS)
    index = _squares(logs, sizes, np.broadcast_to(grid, (len(logs), NUM_POINTS))).argmin(axis=1)
    found, step = grid[index], (high - low) / (NUM_POINTS - 1)
    for _ in range(2):
        around = found[:, None] + step * np.array([-1.0, 0.0, 1.0])
        left, middle, right = _squares(logs, sizes, around).T
        bend = left - 2 * middle + right
        shift = np.where(bend > 0, (left - right) / np.where(bend > 0, 2 * bend, 1.0), 0.0)
        found, step = np.clip(found + step * np.clip(shift, -1, 1), low, high), step / 20
    bends = np.log1p(np.exp(found)[:, None] / sizes)
    least = np.exp((logs - bends).mean(axis=1))
    residuals = np.sqrt(_squares(logs, sizes, found[:, None])[:, 0] / len(sizes))
    return [
        Hyperbola(float(critical), float(updates), float(residual), float(sizes.min()), float(sizes.max()))
        for critical, updates, residual in zip(np.exp(found), least, residuals, strict=True)
    ]


def _squares(
    logs: NDArray[np.float64], sizes: NDArray[np.float64], log_critical: NDArray[np.float64]
) -> NDArray[np.float64]:
    """The sum of squared residuals of each row of `logs` at each B_crit of its row: (rows, B_crits)."""
    rest = logs[:, None, :] - np.log1p(np.exp(log_critical)[..., None] / sizes)
    return ((rest - rest.mean(axis=-1, keepdims=True)) ** 2).sum(axis=-1)


@dataclass(frozen=True)
class Law:
    """A fit with how well it is known: `draws` are fits to seeds drawn anew within each mini-batch."""

    fitted: Hyperbola
    draws: tuple[Hyperbola, ...]
    num_seeds: int

    def critical_size(self, level: float = 0.95) -> Interval:
        """B_crit, in samples."""
        return self._interval(self.fitted.critical_size, [one.critical_size for one in self.draws], level)

    def ratio(self, size: float, to: float, *, seconds: float = 1.0, level: float = 0.95) -> Interval:
        """The ratio of mean times to the target, of mini-batch `size` over mini-batch `to`.

        `seconds` is the ratio of their seconds per sample; 1 gives the ratio of samples.
        """
        draws = [seconds * one.samples(size) / one.samples(to) for one in self.draws]
        return self._interval(seconds * self.fitted.samples(size) / self.fitted.samples(to), draws, level)

    def _interval(self, estimate: float, draws: Sequence[float], level: float) -> Interval:
        low, high = np.quantile(draws, [(1 - level) / 2, (1 + level) / 2])
        return Interval(self.num_seeds, estimate, float(low), float(high), level, "bootstrap over seeds")


def law(samples_by_size: Mapping[int, Sequence[float]], num_draws: int = NUM_DRAWS) -> Law:
    """The law through the MEAN samples to the target of each mini-batch, given every seed's; seeds are drawn anew.

    The draws come from a generator of their own with a fixed seed.
    """
    sizes = list(samples_by_size)
    random = np.random.default_rng(SEED)
    values = [np.asarray(samples_by_size[size], dtype=np.float64) for size in sizes]
    drawn = [one[random.integers(0, len(one), (num_draws, len(one)))].mean(axis=1) for one in values]
    draws = fits(sizes, np.stack(drawn, axis=1))
    return Law(fit(sizes, [one.mean() for one in values]), tuple(draws), min(map(len, values)))


@dataclass(frozen=True)
class Accumulation:
    """Whether accumulating pays: `micro_seconds` is a micro-batch forth and back, `update_seconds` once an update."""

    micro_size: int
    micro_seconds: float
    update_seconds: float

    def pays(self, num_micro_batches: int, critical_size: float) -> bool:
        """Whether it reaches the target sooner than stepping at each micro-batch: t_o / t_b > a b / B_crit.

        >>> Accumulation(32, 0.001, 0.002).pays(8, 1000), Accumulation(32, 0.001, 0.0001).pays(8, 1000)
        (True, False)
        """
        return self.update_seconds / self.micro_seconds > num_micro_batches * self.micro_size / critical_size

    def best(self, critical_size: float) -> float:
        """The best number of micro-batches, sqrt(B_crit t_o / (b t_b)); below 1 it never pays."""
        return math.sqrt(critical_size * self.update_seconds / (self.micro_size * self.micro_seconds))
