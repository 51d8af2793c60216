"""Averages of noise-scale estimates: fading, the interval's coverage by simulation, resuming."""

import math

import numpy as np
import pytest

from mbtrain.plan.noise_average import NoiseAverage


def filled(s: np.ndarray, g: np.ndarray, half_life: float = 1e12) -> NoiseAverage:
    average = NoiseAverage(half_life)
    for index, (trace, gradient_sq) in enumerate(zip(s.tolist(), g.tolist(), strict=True)):
        average.add(trace, gradient_sq, samples_seen=100 * (index + 1))
    return average


def test_the_average_fades_by_half_in_the_half_life() -> None:
    average = NoiseAverage(100)
    for samples, trace in ((100, 8.0), (200, 2.0), (400, 2.0)):
        average.add(trace, 1.0, samples_seen=samples)
    weights = [0.5**3, 0.5**2, 1.0]
    expected = sum(w * s for w, s in zip(weights, (8.0, 2.0, 2.0), strict=True)) / sum(weights)
    assert average.trace == pytest.approx(expected, rel=1e-12) == average.scale and average.gradient_sq == 1.0


@pytest.mark.parametrize("bad", [math.nan, math.inf, 1e200])
def test_a_measurement_that_is_not_finite_is_left_out(bad: float) -> None:
    average = NoiseAverage(100)
    for samples, trace in ((100, 8.0), (200, bad), (300, 2.0)):
        average.add(trace, 1.0, samples_seen=samples)
    assert average.trace == pytest.approx((8 * 0.25 + 2) / 1.25, rel=1e-12)


@pytest.mark.parametrize(("count", "snr"), [(20, 8.0), (20, 3.0), (8, 5.0)])
def test_the_interval_covers_as_often_as_it_says(count: int, snr: float) -> None:
    first, second = np.random.default_rng(count).standard_normal((2, 4000, count))
    g = 0.5 + 0.5 / snr * count**0.5 * first
    s = 4 + first + 2 * second
    intervals = [filled(*one).interval() for one in zip(s, g, strict=True)]
    assert 0.935 <= np.mean([low <= 8 <= high for low, high in intervals]) <= 0.965


def test_the_interval_is_the_delta_method_s_where_the_denominator_is_well_known() -> None:
    random = np.random.default_rng(0)
    s, g = 4 + random.standard_normal(2000), 0.5 + 0.01 * random.standard_normal(2000)
    low, high = filled(s, g).interval()
    ratio = s.mean() / g.mean()
    error = (s - ratio * g).std() / g.mean() / 2000**0.5
    assert (low, high) == pytest.approx((ratio - 1.96 * error, ratio + 1.96 * error), rel=2e-3)


def test_the_interval_is_unbounded_where_the_gradient_is_lost_in_noise() -> None:
    low, high = filled(np.array([4.0, 4.1, 3.9, 4.0]), np.array([0.1, -0.12, 0.15, -0.08])).interval()
    assert low > 0 and high == math.inf


def test_a_single_measurement_has_no_interval() -> None:
    average = filled(np.array([4.0]), np.array([1.0]))
    assert average.scale == 4 and all(map(math.isnan, average.interval()))
    assert math.isnan(NoiseAverage(1).scale)


def test_averages_go_on_bit_exactly() -> None:
    s, g = np.random.default_rng(0).random((2, 10))
    whole, other = filled(s, g, 100), NoiseAverage(100)
    other.load(filled(s[:5], g[:5], 100).state())
    for index in range(5, 10):
        other.add(s[index], g[index], samples_seen=100 * (index + 1))
    assert other.interval() == whole.interval() and other.scale == whole.scale
