"""How often intervals hold the truth over simulated sweeps: what the docstrings say of it."""

from typing import Any

import numpy as np
import pytest

from mbtrain.analysis import bootstrap
from mbtrain.analysis.statistics import (
    difference_interval,
    interquartile_mean,
    mean,
    mean_interval,
    median,
    ratio_interval,
    statistic_interval,
)
from mbtrain.analysis.survival import median_time, share_reached


@pytest.fixture(autouse=True)
def few_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    """A bootstrap interval's quantiles from fewer draws: their noise is small beside the spread between sweeps."""
    monkeypatch.setattr(bootstrap, "NUM_DRAWS", 2 * bootstrap.BLOCK_DRAWS)


NORMAL = (lambda random, n: random.normal(2, 3, n)), 2.0
SKEWED = (lambda random, n: random.lognormal(0, 0.5, n)), float(np.exp(0.125))


# Three standard errors of a coverage of .83 to .95 over 1000 sweeps, rounded.
MOST_BY_CHANCE = 0.03


def coverage(interval: Any, truth: float, *, num_sweeps: int = 1000) -> float:
    """The share of sweeps whose interval, made with the generator it is given, holds the truth."""
    random = np.random.default_rng(17)
    found = [interval(random) for _ in range(num_sweeps)]
    return float(np.mean([one.low <= truth <= one.high for one in found]))


@pytest.mark.parametrize("level", [0.8, 0.95])
@pytest.mark.parametrize("n", [2, 5, 10, 29])
def test_t_intervals_of_normal_values_hold_the_mean_as_often_as_they_say(n: int, level: float) -> None:
    draw, truth = NORMAL
    found = coverage(lambda random: mean_interval(draw(random, n), level), truth)
    assert found == pytest.approx(level, abs=0.02 if level == 0.95 else 0.04)


@pytest.mark.parametrize(("n", "stated"), [(5, 0.917), (10, 0.92)])
def test_t_intervals_of_skewed_values_hold_the_mean_as_often_as_stated(n: int, stated: float) -> None:
    draw, truth = SKEWED
    assert coverage(lambda random: mean_interval(draw(random, n)), truth) == pytest.approx(stated, abs=0.02)


@pytest.mark.parametrize("n", [3, 10])
def test_intervals_of_a_difference_hold_it_as_often_as_they_say(n: int) -> None:
    found = coverage(lambda random: difference_interval(random.normal(1, 1, n), random.normal(0, 3, 2 * n)), 1.0)
    assert found == pytest.approx(0.95, abs=0.02)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("values", "n", "stated"),
    [
        (NORMAL, 5, 0.83),
        (NORMAL, 10, 0.90),
        (NORMAL, 30, 0.93),
        (NORMAL, 100, 0.95),
        (SKEWED, 5, 0.81),
        (SKEWED, 10, 0.88),
        (SKEWED, 30, 0.93),
        (SKEWED, 100, 0.93),
    ],
)
def test_bootstrap_intervals_hold_the_mean_as_often_as_stated(values: Any, n: int, stated: float) -> None:
    draw, truth = values
    found = coverage(lambda random: statistic_interval(draw(random, n), mean), truth)
    assert found == pytest.approx(stated, abs=MOST_BY_CHANCE)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("statistic", "n", "stated"),
    [(median, 5, 0.94), (median, 30, 0.95), (interquartile_mean, 5, 0.90), (interquartile_mean, 30, 0.93)],
)
def test_bootstrap_intervals_of_the_middle_hold_it_as_often_as_stated(statistic: Any, n: int, stated: float) -> None:
    found = coverage(lambda random: statistic_interval(random.normal(0, 1, n), statistic), 0.0, num_sweeps=2000)
    assert found == pytest.approx(stated, abs=MOST_BY_CHANCE)


def pairs(random: Any, n: int) -> Any:
    below = random.lognormal(0, 0.2, n)
    return ratio_interval(1.1 * below * random.lognormal(0, 0.1, n), below, paired=True)


@pytest.mark.slow
@pytest.mark.parametrize(("n", "arms", "paired"), [(5, 0.87, 0.83), (10, 0.92, 0.89), (30, 0.93, 0.93)])
def test_ratio_intervals_hold_the_ratio_as_often_as_stated(n: int, arms: float, paired: float) -> None:
    unpaired = coverage(
        lambda random: ratio_interval(random.lognormal(0.1, 0.2, n), random.lognormal(0, 0.2, n)), np.exp(0.1)
    )
    assert unpaired == pytest.approx(arms, abs=MOST_BY_CHANCE)
    assert coverage(lambda random: pairs(random, n), 1.1 * np.exp(0.005)) == pytest.approx(paired, abs=MOST_BY_CHANCE)


@pytest.mark.parametrize("cap", [1.0, 10.0])
@pytest.mark.parametrize("n", [5, 10, 20])
def test_intervals_of_a_median_time_hold_it_although_runs_are_cut_short(n: int, cap: float) -> None:
    def interval(random: Any) -> Any:
        times = random.exponential(1, n)
        return median_time(np.minimum(times, cap), times <= cap)

    assert 0.93 < coverage(interval, np.log(2)) < 0.99


def test_intervals_of_a_share_hold_it_as_often_as_they_say() -> None:
    assert coverage(lambda random: share_reached(random.random(20) < 0.7), 0.7) == pytest.approx(
        0.95, abs=MOST_BY_CHANCE
    )
