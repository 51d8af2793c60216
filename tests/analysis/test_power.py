"""Power and numbers of runs against simulation and published tables."""

import math
from typing import Any

import numpy as np
import pytest
from scipy import stats

from mbtrain.analysis.contrast import tost, welch
from mbtrain.analysis.power import equivalence_power, equivalence_seeds_needed, power, seeds_needed


@pytest.mark.parametrize(
    ("effect", "wanted", "seeds"), [(0.2, 0.8, 394), (0.5, 0.8, 64), (0.8, 0.8, 26), (0.5, 0.9, 86), (0.8, 0.95, 42)]
)
def test_seeds_needed_are_cohens_tables(effect: float, wanted: float, seeds: int) -> None:
    """Cohen, Statistical Power Analysis (1988), table 2.4.1 two-sided .05 (he has 393 for 394)."""
    assert seeds_needed(effect, sd=1.0, power_wanted=wanted) == seeds


@pytest.mark.parametrize("find", [seeds_needed, equivalence_seeds_needed])
@pytest.mark.parametrize("effect", [0.05, 0.7, 3.0])
def test_one_seed_fewer_has_less_power_than_wanted(find: Any, effect: float) -> None:
    reach = power if find is seeds_needed else equivalence_power
    seeds = find(effect, 1.0)
    assert reach(seeds, effect, 1.0) >= 0.8
    assert seeds == 2 or reach(seeds - 1, effect, 1.0) < 0.8


@pytest.mark.parametrize("n", [2, 5, 30])
def test_power_at_no_difference_is_alpha(n: int) -> None:
    assert power(n, 0.0, 1.0, alpha=0.03) == pytest.approx(0.03)


def test_power_depends_on_the_ratio_of_difference_and_spread() -> None:
    assert power(7, -0.02, 0.01) == pytest.approx(power(7, 2.0, 1.0))
    assert equivalence_power(7, 0.02, 0.01) == pytest.approx(equivalence_power(7, 2.0, 1.0))


def test_power_of_many_runs_is_the_normal_limit() -> None:
    """n = 2 (z_.975 + z_.8)^2 sd^2 / d^2."""
    seeds = seeds_needed(0.001, 1.0)
    assert seeds == pytest.approx(2 * (stats.norm.ppf(0.975) + stats.norm.ppf(0.8)) ** 2 * 1e6, rel=1e-4)
    seeds = equivalence_seeds_needed(0.001, 1.0)
    assert seeds == pytest.approx(2 * (stats.norm.ppf(0.95) + stats.norm.ppf(0.9)) ** 2 * 1e6, rel=1e-4)


def test_power_to_show_equality_at_the_margin_is_alpha_at_most() -> None:
    assert equivalence_power(40, 1.0, 1.0, difference=1.0) == pytest.approx(0.05, abs=1e-6)
    assert equivalence_power(5, 1.0, 1.0, difference=1.0) < 0.05


def test_margins_below_the_spread_of_two_runs_are_never_shown() -> None:
    assert equivalence_power(2, 0.01, 1.0) == pytest.approx(0, abs=1e-4)


def test_runs_without_spread_need_two() -> None:
    assert seeds_needed(0.1, 0.0) == equivalence_seeds_needed(0.1, 0.0) == 2


@pytest.mark.parametrize("margin", [0.0, -1.0, math.nan])
def test_no_number_of_runs_shows_a_margin_of_nothing(margin: float) -> None:
    with pytest.raises(ValueError, match=f"margin={margin:g}: must be above 0"):
        equivalence_seeds_needed(margin, 1.0)


@pytest.mark.parametrize("effect", [0.8, 1.5])
def test_simulated_power_is_within_two_points(effect: float) -> None:
    random = np.random.default_rng(11)
    n = seeds_needed(effect, 1.0)
    found = np.mean([welch(random.normal(effect, 1, n), random.normal(0, 1, n)).p <= 0.05 for _ in range(4000)])
    assert found == pytest.approx(power(n, effect, 1.0), abs=0.02)


@pytest.mark.parametrize(("margin", "difference"), [(0.8, 0.0), (1.5, 0.0), (1.5, 0.5)])
def test_simulated_power_to_show_equality_is_within_two_points(margin: float, difference: float) -> None:
    random = np.random.default_rng(12)
    n = equivalence_seeds_needed(margin, 1.0)
    arms = ((random.normal(difference, 1, n), random.normal(0, 1, n)) for _ in range(4000))
    found = np.mean([tost(a, b, margin).p <= 0.05 for a, b in arms])
    assert found == pytest.approx(equivalence_power(n, margin, 1.0, difference=difference), abs=0.02)
