"""The BCa bootstrap against scipy's with the same draws, and where there is nothing to correct."""

from typing import Any

import numpy as np
import pytest
from scipy import stats

from mbtrain.analysis.bootstrap import BLOCK_DRAWS, NUM_DRAWS, SEED, bca_bounds
from mbtrain.analysis.statistics import interquartile_mean

VALUES = np.random.default_rng(1).lognormal(0, 1, 40)
OTHERS = np.random.default_rng(2).lognormal(1, 0.5, 25)


def scipys(samples: Any, statistic: Any, **options: Any) -> tuple[float, float]:
    random = np.random.default_rng(SEED)
    found = stats.bootstrap(samples, statistic, n_resamples=NUM_DRAWS, batch=BLOCK_DRAWS, rng=random, **options)
    return found.confidence_interval.low, found.confidence_interval.high


@pytest.mark.parametrize("level", [0.8, 0.95])
@pytest.mark.parametrize("statistic", [np.mean, np.std], ids=["mean", "std"])
def test_bounds_are_scipys(statistic: Any, level: float) -> None:
    ours = bca_bounds((VALUES,), lambda values: statistic(values, axis=-1), level=level)
    theirs = scipys((VALUES,), statistic, confidence_level=level, method="BCa")
    assert ours == pytest.approx(theirs, rel=1e-9)


def test_bounds_of_two_samples_are_scipys() -> None:
    ours = bca_bounds((VALUES, OTHERS), lambda a, b: a.mean(axis=-1) / b.mean(axis=-1), level=0.95)
    theirs = scipys((VALUES, OTHERS), lambda a, b, axis: a.mean(axis) / b.mean(axis), method="BCa")
    assert ours == pytest.approx(theirs, rel=1e-9)


def test_skewed_values_move_the_bounds_up_against_the_percentiles() -> None:
    low, high = bca_bounds((VALUES,), lambda values: values.mean(axis=-1), level=0.95)
    plain_low, plain_high = scipys((VALUES,), np.mean, method="percentile")
    assert low > plain_low * 1.01 and high > plain_high * 1.01


def test_the_same_values_give_the_same_bounds_whatever_else_draws_numbers() -> None:
    first = bca_bounds((VALUES,), interquartile_mean, level=0.95)
    np.random.default_rng(SEED).random(100)
    assert bca_bounds((VALUES,), interquartile_mean, level=0.95) == first


def test_a_statistic_that_no_single_value_moves_has_bounds_all_the_same() -> None:
    values = np.array([1.0, 2.0, 2.0, 2.0, 2.0, 2.0, 3.0])
    assert bca_bounds((values,), lambda one: np.median(one, axis=-1), level=0.95) == (2, 2)
