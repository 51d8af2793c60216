"""Means and their intervals: definitions, and what is said where there is no interval."""

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from mbtrain.analysis.bootstrap import BLOCK_DRAWS, NUM_DRAWS, SEED
from mbtrain.analysis.statistics import (
    Interval,
    difference_interval,
    finite_mean_interval,
    interquartile_mean,
    mean,
    mean_interval,
    median,
    ratio_interval,
    statistic_interval,
)

RANDOM = np.random.default_rng(4)


def scipys_ratio(above: Any, below: Any, **options: Any) -> Any:
    random = np.random.default_rng(SEED)
    return stats.bootstrap(
        (above, below),
        lambda a, b, axis: a.mean(axis) / b.mean(axis),
        n_resamples=NUM_DRAWS,
        batch=BLOCK_DRAWS,
        rng=random,
        **options,
    ).confidence_interval


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=13))
def test_interquartile_mean_is_that_of_the_values_taken_four_times(values: list[float]) -> None:
    expected = stats.trim_mean(np.repeat(values, 4), 0.25)
    assert interquartile_mean(values) == pytest.approx(expected, rel=1e-9, abs=1e-6)


@pytest.mark.parametrize("statistic", [mean, median, interquartile_mean])
def test_statistics_reduce_the_last_axis(statistic: Any) -> None:
    table = RANDOM.normal(size=(3, 7))
    np.testing.assert_allclose(statistic(table), [statistic(row) for row in table])


@pytest.mark.parametrize("level", [0.8, 0.95])
@pytest.mark.parametrize("n", [2, 5, 29])
def test_few_values_have_scipys_t_interval(n: int, level: float) -> None:
    values = RANDOM.normal(3, 2, n)
    low, high = stats.t.interval(level, n - 1, values.mean(), stats.sem(values))
    found = mean_interval(values, level)
    assert (found.low, found.high) == pytest.approx((low, high))
    assert (found.n, found.estimate, found.method) == (n, pytest.approx(values.mean()), "t")


def test_thirty_values_have_the_bootstraps_interval() -> None:
    values = RANDOM.lognormal(0, 1, 30)
    found = mean_interval(values)
    assert found.method == "BCa bootstrap"
    assert found == statistic_interval(values, mean)


def test_two_arms_have_scipys_welch_interval() -> None:
    a, b = RANDOM.normal(0, 1, 7), RANDOM.normal(1, 3, 4)
    bounds = stats.ttest_ind(a, b, equal_var=False).confidence_interval(0.9)
    found = difference_interval(a, b, level=0.9)
    assert (found.low, found.high) == pytest.approx((bounds.low, bounds.high))
    assert found.n == 4


def test_ratio_of_independent_arms_is_scipys_bootstrap() -> None:
    above, below = RANDOM.lognormal(1, 0.4, 15), RANDOM.lognormal(0, 0.4, 12)
    theirs = scipys_ratio(above, below)
    found = ratio_interval(above, below)
    assert (found.low, found.high) == pytest.approx((theirs.low, theirs.high), rel=1e-9)
    assert found.estimate == pytest.approx(above.mean() / below.mean())


def test_ratio_of_pairs_is_scipys_bootstrap() -> None:
    below = RANDOM.lognormal(0, 0.6, 15)
    above = 2 * below * RANDOM.lognormal(0, 0.05, 15)
    theirs = scipys_ratio(above, below, paired=True)
    found = ratio_interval(above, below, paired=True)
    assert (found.low, found.high) == pytest.approx((theirs.low, theirs.high), rel=1e-9)


def test_pairing_narrows_the_ratio_of_what_moves_together() -> None:
    below = RANDOM.lognormal(0, 0.6, 15)
    paired, unpaired = (ratio_interval(2 * below, below, paired=flag) for flag in (True, False))
    assert paired.low == pytest.approx(2) and paired.high == pytest.approx(2)
    assert unpaired.high - unpaired.low > 0.5


def test_a_ratio_whose_denominator_may_be_zero_has_no_bounds() -> None:
    found = ratio_interval([1.0, 2.0, 3.0], [-1.0, 2.0, 1.0])
    assert not found.has_bounds and found.method == "no interval: the denominator may be 0"


@pytest.mark.parametrize(
    "found",
    [
        mean_interval([1.5]),
        statistic_interval([1.5], median),
        ratio_interval([3.0], [2.0, 2.0]),
        difference_interval([3.5], [2.0, 2.0]),
    ],
)
def test_one_value_has_an_estimate_and_no_bounds_and_says_so(found: Interval) -> None:
    assert (found.n, found.estimate, found.method) == (1, 1.5, "no interval: fewer than 2 values")
    assert math.isnan(found.low) and math.isnan(found.high)
    assert str(found) == "1.5 (n = 1, no interval: fewer than 2 values)"


@pytest.mark.parametrize(
    "found", [mean_interval([]), statistic_interval([], median), ratio_interval([], []), difference_interval([], [])]
)
def test_no_values_have_no_estimate(found: Interval) -> None:
    assert found.n == 0 and math.isnan(found.estimate) and not found.has_bounds


@pytest.mark.parametrize("n", [2, 29, 30])
def test_equal_values_have_an_interval_without_width_and_say_so(n: int) -> None:
    found = mean_interval([0.1] * n)
    assert (found.low, found.estimate, found.high, found.method) == (0.1, 0.1, 0.1, "all values equal")


def test_difference_of_arms_without_spread_says_so() -> None:
    found = difference_interval([0.5] * 3, [0.25] * 3)
    assert (found.low, found.high, found.method) == (0.25, 0.25, "no spread")


@pytest.mark.parametrize("interval", [mean_interval, mean, median, interquartile_mean])
def test_a_diverged_run_is_not_averaged_silently(interval: Any) -> None:
    with pytest.raises(ValueError, match="1 of 3 values are not finite"):
        interval([1.0, math.nan, 2.0])


def test_a_mean_over_finite_runs_tells_how_many_diverged() -> None:
    found = finite_mean_interval([1.0, math.nan, 2.0, 3.0, math.inf])
    assert (found.n, found.estimate, found.num_left_out) == (3, 2, 2)
    assert str(found).endswith("(n = 3, 95 %, t, 2 diverged left out)")


def test_a_setting_whose_runs_all_diverged_has_no_mean() -> None:
    found = finite_mean_interval([math.nan, math.inf])
    assert (found.n, found.num_left_out, math.isnan(found.estimate)) == (0, 2, True)
