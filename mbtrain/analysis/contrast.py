"""Tests of two arms: is there a difference (Welch, permutation), is there none within a margin (TOST), many at once.

Every difference is mean(a) - mean(b). Arms are not paired: two runs with one seed go apart as two seeds do.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy import special

from mbtrain.analysis.finite import Values, all_finite

NUM_DRAWS = 10_000
SEED = 0


@dataclass(frozen=True)
class Comparison:
    """A test's outcome: p (nan where an arm has fewer than 2 values) and what is printed beside it.

    `statistic` is t (Welch, TOST) or the difference itself (permutation); `degrees` its degrees of freedom, nan where
    it has none.
    """

    method: str
    num_a: int
    num_b: int
    difference: float
    statistic: float
    degrees: float
    p: float


class Error(NamedTuple):
    """A difference of means with its standard error and Welch-Satterthwaite degrees of freedom."""

    difference: float
    standard_error: float
    degrees: float


def variance(arm: Values) -> float:
    """The unbiased variance, exactly 0 where all values are equal (their mean may be rounded)."""
    return float(arm.var(ddof=1)) if np.ptp(arm) else 0.0


def welch_error(a: ArrayLike, b: ArrayLike) -> Error:
    """The difference of two means and how well it is known (B. L. Welch, Biometrika 34:28, 1947).

    nan where an arm has fewer than 2 values; a standard error of 0 where neither arm has any spread.
    """
    arms = all_finite(a), all_finite(b)
    difference = float(arms[0].mean() - arms[1].mean()) if all(map(len, arms)) else math.nan
    if min(map(len, arms)) < 2:
        return Error(difference, math.nan, math.nan)
    parts = [variance(arm) / len(arm) for arm in arms]
    total = sum(parts)
    if total == 0:
        return Error(difference, 0.0, math.nan)
    degrees = total**2 / sum(part**2 / (len(arm) - 1) for part, arm in zip(parts, arms, strict=True))
    return Error(difference, math.sqrt(total), degrees)


def welch(a: ArrayLike, b: ArrayLike) -> Comparison:
    """Welch's two-sided t test: the arms may differ in spread and in size.

    Where neither arm has any spread t is not defined, and p is the least that values without spread can show: that
    of the exact permutation test.

    >>> round(welch([1.0, 1.2, 1.1], [1.5, 1.9, 1.6]).p, 3)
    0.026
    """
    error = welch_error(a, b)
    if error.standard_error == 0:
        return _compared("Welch", a, b, error, math.nan, 1.0 if error.difference == 0 else _least_p(a, b))
    t = error.difference / error.standard_error
    return _compared("Welch", a, b, error, t, float(2 * special.stdtr(error.degrees, -abs(t))))


def tost(a: ArrayLike, b: ArrayLike, margin: float) -> Comparison:
    """Two one-sided Welch tests that the difference is inside (-margin, margin) (Schuirmann, 1987).

    p <= alpha is the claim "no difference within the margin"; it is wrong at most in alpha of the cases where the
    difference is the margin or more. `statistic` is the t of the side that is nearer to its margin.

    >>> round(tost([1.0, 1.2, 1.1], [1.1, 1.0, 1.2], margin=0.5).p, 3)
    0.002
    """
    error = welch_error(a, b)
    method = f"TOST within {margin:g}"
    room = margin - abs(error.difference)
    if error.standard_error == 0:
        return _compared(method, a, b, error, math.nan, _least_p(a, b) if room > 0 else 1.0)
    t = room / error.standard_error
    return _compared(method, a, b, error, t, float(special.stdtr(error.degrees, -t)))


def permutation(a: ArrayLike, b: ArrayLike) -> Comparison:
    """The two-sided permutation test of the means: how many regroupings of the values differ at least as much.

    Exact up to 10^4 regroupings, else 10^4 draws from a fixed seed (with the observed grouping counted in, so that p
    is never 0: Phipson & Smyth, arXiv 1603.05766). Valid where the arms have one distribution if they differ in
    nothing; arms of unequal size whose spreads differ are a case for `welch`.

    >>> permutation([1.0, 1.2, 1.1], [1.5, 1.9, 1.6]).p
    0.1
    """
    arms = all_finite(a), all_finite(b)
    num_a, num_b = map(len, arms)
    difference = float(arms[0].mean() - arms[1].mean()) if num_a and num_b else math.nan
    if min(num_a, num_b) < 2:
        return Comparison("permutation", num_a, num_b, difference, difference, math.nan, math.nan)
    pooled = np.concatenate(arms)
    is_exact = math.comb(num_a + num_b, num_a) <= NUM_DRAWS
    sums = _all_sums(pooled, num_a) if is_exact else _drawn_sums(pooled, num_a)
    differences = np.abs(sums / num_a - (pooled.sum() - sums) / num_b)
    # Regroupings that differ as much as the observed one do so up to rounding.
    as_much = differences >= abs(difference) - 1e-12 * np.abs(pooled).max()
    p = as_much.mean() if is_exact else (as_much.sum() + 1) / (len(sums) + 1)
    method = "permutation, exact" if is_exact else f"permutation, {NUM_DRAWS} draws"
    return Comparison(method, num_a, num_b, difference, difference, math.nan, float(p))


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's adjusted p, in the order given: reject those <= alpha, and any false claim at all has rate <= alpha.

    A p that is nan (no test was possible) stays nan and counts among the tests.

    >>> holm([0.01, 0.04, 0.03])
    [0.03, 0.06, 0.06]
    """
    p = np.asarray(p_values, dtype=np.float64)
    order = np.argsort(p)  # nan comes last
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum(np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1)), 1)
    return adjusted.tolist()


def _compared(method: str, a: ArrayLike, b: ArrayLike, error: Error, statistic: float, p: float) -> Comparison:
    return Comparison(method, np.size(a), np.size(b), error.difference, statistic, error.degrees, p)


def _least_p(a: ArrayLike, b: ArrayLike) -> float:
    """The exact permutation test's p of arms that do not overlap: of all groupings, the observed one and its mirror."""
    return min(1.0, 2 / math.comb(np.size(a) + np.size(b), np.size(a)))


def _all_sums(pooled: Values, num_a: int) -> Values:
    """The sum of every choice of `num_a` values."""
    return pooled[np.array(list(combinations(range(len(pooled)), num_a)))].sum(axis=1)


def _drawn_sums(pooled: Values, num_a: int) -> Values:
    random = np.random.default_rng(SEED)
    return random.permuted(np.tile(pooled, (NUM_DRAWS, 1)), axis=1)[:, :num_a].sum(axis=1)
