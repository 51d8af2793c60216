"""Tests of two arms against scipy, counting and hand values."""

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from mbtrain.analysis.contrast import holm, permutation, tost, welch, welch_error

RANDOM = np.random.default_rng(5)
ARMS = [
    (RANDOM.normal(0, 1, 5), RANDOM.normal(1, 3, 8)),
    (RANDOM.normal(0, 1, 2), RANDOM.normal(0, 1, 3)),
    (RANDOM.lognormal(0, 1, 30), RANDOM.normal(1, 1, 12)),
]


@pytest.mark.parametrize(("a", "b"), ARMS)
def test_welch_is_scipys(a: Any, b: Any) -> None:
    ours, theirs = welch(a, b), stats.ttest_ind(a, b, equal_var=False)
    assert (ours.statistic, ours.degrees, ours.p) == pytest.approx((theirs.statistic, theirs.df, theirs.pvalue))


@pytest.mark.parametrize("margin", [0.1, 1.0, 3.0])
@pytest.mark.parametrize(("a", "b"), ARMS)
def test_tost_is_the_larger_of_two_one_sided_welch_tests(a: Any, b: Any, margin: float) -> None:
    above = stats.ttest_ind(a + margin, b, equal_var=False, alternative="greater").pvalue
    below = stats.ttest_ind(a - margin, b, equal_var=False, alternative="less").pvalue
    assert tost(a, b, margin).p == pytest.approx(max(above, below))


@pytest.mark.parametrize("shift", [0, 0.7, 2])
def test_permutation_of_few_values_is_scipys_exact_one(shift: float) -> None:
    a, b = RANDOM.normal(0, 1, 5), RANDOM.normal(shift, 1, 5)
    theirs = stats.permutation_test((a, b), lambda x, y: x.mean() - y.mean(), n_resamples=np.inf)
    ours = permutation(a, b)
    assert (ours.method, ours.p) == ("permutation, exact", pytest.approx(theirs.pvalue, abs=1e-12))


def test_permutation_of_many_values_is_scipys_up_to_the_draws() -> None:
    a, b = RANDOM.normal(0, 1, 20), RANDOM.normal(0.6, 1, 25)
    theirs = stats.permutation_test(
        (a, b),
        lambda x, y, axis: np.abs(x.mean(axis) - y.mean(axis)),
        vectorized=True,
        alternative="greater",
        rng=np.random.default_rng(6),
    )
    ours = permutation(a, b)
    assert (ours.method, ours.p) == ("permutation, 10000 draws", pytest.approx(theirs.pvalue, abs=0.01))


def test_drawn_permutation_is_never_surer_than_its_draws() -> None:
    assert permutation(np.arange(20.0), 100 + np.arange(20.0)).p == 1 / 10_001


def test_holm_gives_the_hand_values_in_the_order_given() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])


@given(st.lists(st.floats(0, 1), min_size=1, max_size=8))
def test_holm_rejects_what_the_step_down_rule_rejects(p_values: list[float]) -> None:
    alpha = 0.05
    rejected = set()
    for rank, index in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        if p_values[index] * (len(p_values) - rank) > alpha:
            break
        rejected.add(index)
    assert {index for index, p in enumerate(holm(p_values)) if p <= alpha} == rejected


def test_holm_counts_a_test_that_was_not_possible() -> None:
    assert holm([math.nan, 0.02]) == [pytest.approx(math.nan, nan_ok=True), 0.04]


def test_holm_of_nothing_is_nothing() -> None:
    assert holm([]) == []


@pytest.mark.parametrize("test", [welch, permutation, lambda a, b: tost(a, b, 1.0)])
@pytest.mark.parametrize(("a", "b"), [([1.0], [1.0, 2.0]), ([1.0, 2.0], [1.0]), ([], [1.0, 2.0]), ([], [])])
def test_an_arm_of_fewer_than_two_values_has_no_p(test: Any, a: list[float], b: list[float]) -> None:
    assert math.isnan(test(a, b).p)


@pytest.mark.parametrize("test", [welch, permutation, lambda a, b: tost(a, b, 1.0)])
def test_a_diverged_value_is_an_error(test: Any) -> None:
    with pytest.raises(ValueError, match="1 of 2 values are not finite"):
        test([1.0, 2.0], [1.0, math.nan])


@pytest.mark.parametrize("size", [2, 3, 5])
def test_without_any_spread_welch_is_as_sure_as_the_permutation_test(size: int) -> None:
    a, b = [0.1] * size, [0.3] * size
    assert welch(a, b).p == permutation(a, b).p == 2 / math.comb(2 * size, size)
    assert welch(a, a).p == permutation(a, a).p == 1


def test_without_any_spread_equality_is_shown_inside_the_margin_only() -> None:
    assert tost([0.1] * 5, [0.3] * 5, margin=0.21).p < 0.05
    assert tost([0.1] * 5, [0.3] * 5, margin=0.19).p == 1


def test_a_constant_arm_has_no_spread_although_its_mean_is_rounded() -> None:
    assert np.var([0.1] * 3) > 0
    assert welch_error([0.1] * 3, [0.1] * 3).standard_error == 0


def test_welch_keeps_its_rate_where_spreads_and_sizes_differ() -> None:
    random = np.random.default_rng(8)
    p = [welch(random.normal(0, 1, 20), random.normal(0, 4, 5)).p for _ in range(2000)]
    assert 0.035 < np.mean(np.array(p) <= 0.05) < 0.065
