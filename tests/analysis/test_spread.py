"""Variance of test accuracy within the test set and between runs: against halves, closed forms and simulation."""

import math
from itertools import combinations
from typing import Any

import numpy as np
import pytest

from mbtrain.analysis.spread import accuracy_spread


def simulated(random: Any, num_runs: int, num_examples: int, sd: float) -> Any:
    """Runs whose accuracy on the distribution has this sd, and errors that are independent given it."""
    quality = random.normal(0.8, sd, (num_runs, 1))
    # Two kinds of example: the accuracy of a run is the mean over both.
    easiness = np.where(np.arange(num_examples) % 2, 0.15, -0.15)
    return random.random((num_runs, num_examples)) < quality + easiness


@pytest.mark.parametrize("num_examples", [6, 7])
def test_distribution_variance_is_the_mean_covariance_of_all_ways_to_halve(num_examples: int) -> None:
    correct = np.random.default_rng(2).random((4, num_examples)) < 0.6
    covariances = []
    for half in combinations(range(num_examples), num_examples // 2):
        rest = [j for j in range(num_examples) if j not in half]
        covariances.append(np.cov(correct[:, half].mean(axis=1), correct[:, rest].mean(axis=1))[0, 1])
    assert accuracy_spread(correct).distribution_variance == pytest.approx(np.mean(covariances), abs=1e-12)


def test_between_is_the_sd_of_the_accuracies() -> None:
    correct = simulated(np.random.default_rng(3), 6, 50, 0.02)
    found = accuracy_spread(correct)
    assert found.between.estimate == pytest.approx(correct.mean(axis=1).std(ddof=1))
    assert found.accuracy == pytest.approx(correct.mean())
    assert (found.num_runs, found.num_examples, found.between.n) == (6, 50, 6)


def test_independent_errors_of_sure_examples_have_no_spread() -> None:
    found = accuracy_spread([[1, 1, 0], [1, 1, 0], [1, 1, 0]])
    assert (found.independent, found.between.estimate, found.distribution.estimate) == (0, 0, 0)


def test_runs_that_are_wholly_right_or_wrong_differ_in_the_distribution_alone() -> None:
    """V = 1/3 (two of four runs right), and every pair of examples covaries as an example with itself."""
    found = accuracy_spread([[1] * 5, [0] * 5, [1] * 5, [0] * 5])
    assert found.distribution_variance == pytest.approx(1 / 3)


def test_expected_spread_of_independent_errors_is_the_sum_of_p_times_1_minus_p() -> None:
    random = np.random.default_rng(4)
    p = random.random(400)
    found = [accuracy_spread(random.random((5, 400)) < p).independent ** 2 for _ in range(300)]
    assert np.mean(found) == pytest.approx(float((p * (1 - p)).sum()) / 400**2, rel=0.01)


@pytest.mark.parametrize("sd", [0.0, 0.01, 0.03])
def test_distribution_variance_is_unbiased(sd: float) -> None:
    random = np.random.default_rng(5)
    found = [accuracy_spread(simulated(random, 8, 500, sd)).distribution_variance for _ in range(1500)]
    error = np.std(found) / math.sqrt(len(found))
    assert abs(np.mean(found) - sd**2) < 3 * error < max(sd**2, 2e-4)


@pytest.mark.parametrize("num_runs", [3, 20])
def test_intervals_hold_the_truth_as_often_as_they_say(num_runs: int) -> None:
    random = np.random.default_rng(6)
    found = [accuracy_spread(simulated(random, num_runs, 500, 0.02)) for _ in range(1500)]
    holds = [one.distribution.low <= 0.02 <= one.distribution.high for one in found]
    assert 0.93 < np.mean(holds) < 0.97


def test_one_run_has_an_accuracy_and_no_spread() -> None:
    found = accuracy_spread([[1, 0, 1, 1]])
    assert found.accuracy == 0.75
    assert not found.between.has_bounds and not found.distribution.has_bounds and math.isnan(found.independent)
