"""Bootstrap intervals that are corrected for bias and for skew (BCa; Efron, JASA 82:171, 1987), with a fixed seed."""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr, ndtri

from mbtrain.analysis.finite import Values

# Reduces the last axis: one number of each row of values.
Statistic = Callable[..., NDArray[Any]]

NUM_DRAWS = 10_000
# Draws of a block: what a block takes (values x draws x 8 bytes) stays in the cache, and small whatever n is.
BLOCK_DRAWS = 1_000
SEED = 0


def bca_bounds(samples: tuple[Values, ...], statistic: Statistic, *, level: float) -> tuple[float, float]:
    """The BCa interval of `statistic(*samples)`, each sample drawn anew by itself.

    Values that belong together are one sample with rows: a statistic of pairs is given [..., values, 2] arrays. The
    draws come from a generator of their own with a fixed seed: the same values give the same bounds.
    """
    draws = _draws(samples, statistic)
    estimate = statistic(*samples)
    # Draws that equal the estimate count half: a statistic with few values (a median) would seem biased else.
    share_below = np.mean(draws < estimate) + np.mean(draws == estimate) / 2
    # Within the draws' resolution, so that the bias stays finite.
    bias = ndtri(np.clip(share_below, 0.5 / len(draws), 1 - 0.5 / len(draws)))
    acceleration = _acceleration(samples, statistic)
    normal = bias + ndtri(np.array([(1 - level) / 2, (1 + level) / 2]))
    low, high = np.quantile(draws, ndtr(bias + normal / (1 - acceleration * normal)))
    return float(low), float(high)


def _draws(samples: tuple[Values, ...], statistic: Statistic) -> Values:
    random = np.random.default_rng(SEED)
    blocks = []
    for _ in range(NUM_DRAWS // BLOCK_DRAWS):
        indices = [random.integers(0, len(one), (BLOCK_DRAWS, len(one))) for one in samples]
        blocks.append(statistic(*(one[index] for one, index in zip(samples, indices, strict=True))))
    return np.concatenate(blocks)


def _acceleration(samples: tuple[Values, ...], statistic: Statistic) -> float:
    """The skew of the statistic, from leaving out one value after another (Efron & Tibshirani 1993, 14.15).

    With several samples the sums of cubes and of squares run over all of them, each over its size to the power (as
    `scipy.stats.bootstrap` has it).
    """
    cubes = squares = 0.0
    for which, sample in enumerate(samples):
        n = len(sample)
        others = np.nonzero(~np.eye(n, dtype=bool))[1].reshape(n, n - 1)  # row i: all but i
        left_out = statistic(*(one[others] if at == which else one for at, one in enumerate(samples)))
        influence = (n - 1) * (left_out.mean() - left_out)
        cubes += float((influence**3).sum()) / n**3
        squares += float((influence**2).sum()) / n**2
    return cubes / (6 * squares**1.5) if squares else 0.0
