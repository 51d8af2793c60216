"""Targets that some runs never reach: against scipy and hand values."""

import math
from typing import Any

import numpy as np
import pytest
from scipy import stats

from mbtrain.analysis.survival import log_rank, median_time, share_reached

RANDOM = np.random.default_rng(9)


def runs(n: int, scale: float = 1.0, cap: float = 1.5) -> tuple[Any, Any]:
    """Times to a target, to one decimal so that some are equal, cut where the runs end."""
    times = np.round(RANDOM.exponential(scale, n) + 0.1, 1)
    return np.minimum(times, cap), times <= cap


@pytest.mark.parametrize(("num_reached", "n"), [(0, 5), (1, 5), (7, 12), (5, 5), (1, 1)])
def test_share_has_scipys_wilson_interval(num_reached: int, n: int) -> None:
    theirs = stats.binomtest(num_reached, n).proportion_ci(0.9, method="wilson")
    found = share_reached([True] * num_reached + [False] * (n - num_reached), level=0.9)
    assert (found.low, found.high) == pytest.approx((theirs.low, theirs.high), abs=1e-12)
    assert found.estimate == num_reached / n


@pytest.mark.parametrize("n", [5, 12, 40])
def test_median_and_bounds_are_where_scipys_curve_and_band_cross_one_half(n: int) -> None:
    times, reached = runs(n)
    curve = stats.ecdf(stats.CensoredData.right_censored(times, ~reached)).sf
    band = curve.confidence_interval(0.95, method="log-log")

    def crossing(probabilities: Any) -> float:
        return next((float(t) for t, p in zip(curve.quantiles, probabilities, strict=True) if p <= 0.5), math.inf)

    found = median_time(times, reached)
    expected = [crossing(one.probabilities) for one in (band.low, curve, band.high)]
    assert [found.low, found.estimate, found.high] == expected
    assert not reached.all()


def test_median_counts_a_run_that_ended_as_watched_until_then() -> None:
    """Of 5 runs: 4/5 at 1; then 3 are on the way at 3 (one ended at 2): 4/5 x 2/3 at 3, x 1/2 at 4."""
    found = median_time([1, 2, 3, 4, 5], [True, False, True, True, False])
    assert found.estimate == 4


def test_leaving_out_the_runs_that_never_arrived_would_give_a_shorter_time() -> None:
    times, reached = np.array([1.0, 2.0, 3.0, 9.0, 9.0]), np.array([True, True, True, False, False])
    assert median_time(times, reached).estimate == 3 > np.median(times[reached])


def test_where_fewer_than_half_arrive_the_median_is_later_than_the_runs_show() -> None:
    found = median_time([3.0, 9.0, 9.0, 9.0], [True, False, False, False])
    assert (found.estimate, found.high) == (math.inf, math.inf)


def test_where_no_run_arrives_nothing_is_known_but_that() -> None:
    found = median_time([9.0, 9.0], [False, False])
    assert (found.low, found.estimate, found.high) == (math.inf,) * 3


@pytest.mark.parametrize(("n", "high"), [(5, math.inf), (6, 50)])
def test_runs_that_all_arrive_at_once_bound_the_median_from_six_on(n: int, high: float) -> None:
    """The exact interval of a median, from the least to the largest value, has level 1 - 2/2^n."""
    found = median_time([50.0] * n, [True] * n)
    assert (found.low, found.estimate, found.high) == (50, 50, high)


def test_one_run_has_a_time_and_no_bounds() -> None:
    found = median_time([4.0], [True])
    assert (found.estimate, found.has_bounds) == (4, False)


def test_no_runs_have_neither_share_nor_time() -> None:
    for found in (share_reached([]), median_time([], [])):
        assert found.n == 0 and math.isnan(found.estimate) and not found.has_bounds


def test_a_time_that_is_not_finite_is_an_error() -> None:
    with pytest.raises(ValueError, match="1 of 2 values are not finite"):
        median_time([1.0, math.nan], [True, False])


@pytest.mark.parametrize("scale", [1.0, 2.0])
def test_log_rank_is_the_sum_of_observed_less_expected_arrivals(scale: float) -> None:
    """Mantel and Haenszel's table at each time: d arrivals among n on the way, n_a of them in a."""
    (times_a, reached_a), (times_b, reached_b) = runs(15), runs(20, scale)
    difference = variance = 0.0
    for t in sorted({*times_a[reached_a], *times_b[reached_b]}):
        n_a, n_b = (times_a >= t).sum(), (times_b >= t).sum()
        d_a, n = (times_a[reached_a] == t).sum(), n_a + n_b
        d = d_a + (times_b[reached_b] == t).sum()
        difference += d_a - d * n_a / n
        variance += d * (n_a / n) * (n_b / n) * (n - d) / (n - 1) if n > 1 else 0
    found = log_rank(times_a, reached_a, times_b, reached_b)
    assert found.statistic == pytest.approx(difference / math.sqrt(variance))
    assert found.p == pytest.approx(2 * stats.norm.sf(abs(found.statistic)))


def test_log_rank_is_above_zero_where_a_arrives_sooner() -> None:
    assert log_rank([1, 2, 3], [True] * 3, [4, 5, 6], [True] * 3).statistic > 0


@pytest.mark.parametrize("reached", [True, False])
def test_arms_that_arrive_at_once_or_never_do_not_differ(reached: bool) -> None:
    assert log_rank([5, 5, 5], [reached] * 3, [5, 5], [reached] * 2).p == 1


def test_an_empty_arm_has_no_log_rank() -> None:
    assert math.isnan(log_rank([], [], [1.0], [True]).p)
