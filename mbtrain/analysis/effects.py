"""Which factors matter: the share of the scores' variance that each explains, and a permutation test of it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mbtrain.analysis.contrast import holm

# The least p is 1 / (1 + PERMUTATIONS): small enough for Holm over a hundred factors.
PERMUTATIONS = 4999
# At most about this many numbers are permuted, so that thousands of runs take seconds.
LARGEST = 20_000_000
Levels = NDArray[np.int64]


@dataclass(frozen=True)
class Effect:
    """A factor's share of the variance (0 to 1) on its own; p for no effect, by permutation; the same after Holm."""

    name: str
    share: float
    p: float
    p_holm: float


@dataclass(frozen=True)
class Shares:
    """Where the variance of `num_runs` scores comes from; `together` is what factors do only jointly.

    `chance` is the spread between runs of one setting, nan where no setting was repeated (`together` then holds both).
    """

    num_runs: int
    effects: tuple[Effect, ...]
    together: float
    chance: float


def shares(scores: ArrayLike, levels: Mapping[str, ArrayLike], *, seed: int = 0) -> Shares:
    """Share of each factor: the variance between its levels' means, after the mean of the other factors' setting.

    The test shuffles scores among the runs that agree in all other factors (and are exchangeable where this one does
    nothing), whatever the scores' distribution. Balanced sweeps give the shares of a plain analysis of variance.
    """
    values = np.asarray(scores, dtype=np.float64)
    codes = {name: np.unique(np.asarray(one), return_inverse=True)[1] for name, one in levels.items()}
    total = float(((values - values.mean()) ** 2).sum())
    generator = np.random.default_rng(seed)
    found = []
    for name, own in codes.items():
        strata = _setting([other for key, other in codes.items() if key != name], len(values))
        found.append((name, *_tested(values, own, strata, generator)))
    adjusted = holm([p for _, _, p in found])
    parts = [square / total if total else 0.0 for _, square, _ in found]
    effects = tuple(
        Effect(name, share, p, p_holm) for (name, _, p), share, p_holm in zip(found, parts, adjusted, strict=True)
    )
    settings = _setting(list(codes.values()), len(values))
    is_repeated = settings.max(initial=-1) + 1 < len(values)
    within = float((_centred(values[None], settings) ** 2).sum())
    chance = within / total if is_repeated and total else np.nan
    together = max(0.0, 1 - sum(parts) - (chance if is_repeated else 0.0)) if total else 0.0
    return Shares(len(values), tuple(sorted(effects, key=lambda one: -one.share)), together, chance)


def _setting(codes: Sequence[Levels], num_runs: int) -> Levels:
    """One number a setting, from the levels of several factors."""
    if not codes:
        return np.zeros(num_runs, dtype=np.int64)
    return np.unique(np.stack(codes, axis=1), axis=0, return_inverse=True)[1].reshape(-1)


def _tested(values: NDArray, own: Levels, strata: Levels, generator: np.random.Generator) -> tuple[float, float]:
    """(sum of squares between levels, p)."""
    centred = _centred(values[None], strata)
    observed = float(_between(centred, own)[0])
    num_permutations = min(PERMUTATIONS, max(99, LARGEST // len(values)))
    as_large = 0
    order = np.argsort(strata, kind="stable")
    for start in range(0, num_permutations, 500):
        count = min(500, num_permutations - start)
        # Sorting by (stratum, a random number) shuffles inside each stratum.
        keys = generator.random((count, len(values))) + strata
        shuffled = np.empty((count, len(values)))
        shuffled[:, order] = np.take_along_axis(np.broadcast_to(centred, keys.shape), np.argsort(keys, axis=1), axis=1)
        as_large += int((_between(shuffled, own) >= observed * (1 - 1e-9)).sum())
    return observed, (1 + as_large) / (1 + num_permutations)


def _centred(table: NDArray, groups: Levels) -> NDArray:
    """Rows of `table` [draws, runs] less the mean of each group of runs."""
    means = _sums(table, groups) / np.bincount(groups)
    return table - means[:, groups]


def _between(table: NDArray, groups: Levels) -> NDArray:
    """Sum of squares between groups, of each row of a table whose rows have mean 0."""
    return (_sums(table, groups) ** 2 / np.bincount(groups)).sum(axis=1)


def _sums(table: NDArray, groups: Levels) -> NDArray:
    one_hot = np.zeros((table.shape[1], groups.max(initial=-1) + 1))
    one_hot[np.arange(table.shape[1]), groups] = 1
    return table @ one_hot
