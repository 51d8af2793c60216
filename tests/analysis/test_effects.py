"""Shares of variance against the plain analysis of variance; the test's errors by simulation."""

import numpy as np
import pytest

from mbtrain.analysis import effects
from mbtrain.analysis.effects import shares

RATES, SIZES, SEEDS = np.array([(a, b, s) for a in range(4) for b in range(3) for s in range(3)]).T


def test_balanced_shares_are_those_of_the_analysis_of_variance() -> None:
    y = np.random.default_rng(0).random(36) + RATES + 0.3 * RATES * SIZES
    table = y.reshape(4, 3, 3)
    total = ((y - y.mean()) ** 2).sum()
    rate = 9 * ((table.mean((1, 2)) - y.mean()) ** 2).sum() / total
    size = 12 * ((table.mean((0, 2)) - y.mean()) ** 2).sum() / total
    chance = ((table - table.mean(2, keepdims=True)) ** 2).sum() / total
    found = shares(y, {"rate": RATES, "size": SIZES})
    assert {one.name: one.share for one in found.effects} == pytest.approx({"rate": rate, "size": size}, rel=1e-12)
    assert (found.chance, found.together) == pytest.approx((chance, 1 - rate - size - chance), rel=1e-9)


def test_factors_that_do_nothing_are_claimed_in_five_percent_of_sweeps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(effects, "PERMUTATIONS", 199)
    generator = np.random.default_rng(1)
    # Skewed scores whose size depends on the other factor: no assumption of a normal distribution or equal spread.
    found = [shares(generator.exponential(size=36), {"rate": RATES, "size": SIZES}, seed=i) for i in range(400)]
    claimed = np.mean([any(one.p_holm <= 0.05 for one in each.effects) for each in found])
    assert 0.02 <= claimed <= 0.075


def test_another_factor_s_effect_is_not_taken_for_one_s_own() -> None:
    y = 100.0 * SIZES + np.random.default_rng(0).random(36)
    found = {one.name: one for one in shares(y, {"rate": RATES, "size": SIZES}).effects}
    assert found["size"].share > 0.99 and found["size"].p_holm < 0.001
    assert found["rate"].p_holm > 0.05


def test_a_small_effect_under_a_large_one_is_found() -> None:
    y = 100.0 * SIZES + RATES + 0.5 * np.random.default_rng(0).random(36)
    found = {one.name: one for one in shares(y, {"rate": RATES, "size": SIZES}).effects}
    assert found["rate"].p_holm < 0.001


def test_one_run_a_level_proves_nothing() -> None:
    found = shares([1.0, 2.0, 3.0, 4.0], {"rate": [0, 1, 2, 3]})
    assert found.effects[0].p == 1 and np.isnan(found.chance)


def test_equal_scores_have_no_shares() -> None:
    found = shares(np.ones(36), {"rate": RATES, "size": SIZES})
    assert [one.share for one in found.effects] == [0, 0] and found.effects[0].p == 1


def test_an_uneven_sweep_lends_no_factor_the_effect_of_another() -> None:
    # High rates were tried at the larger size mostly, and only the size does anything.
    rates, sizes = np.array([(0, 0)] * 6 + [(1, 0)] * 2 + [(0, 1)] * 2 + [(1, 1)] * 6).T
    y = 10.0 * sizes + np.random.default_rng(0).random(16)
    found = {one.name: one for one in shares(y, {"rate": rates, "size": sizes}).effects}
    assert found["rate"].share < 0.01 and found["rate"].p_holm > 0.05 and found["size"].p_holm < 0.05
