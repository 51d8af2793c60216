"""The hyperbola of updates to a target: exact data, a trusted fit, the interval's coverage, what it predicts."""

import math

import numpy as np
import pytest
from scipy.optimize import curve_fit

from mbtrain.analysis.hyperbola import Accumulation, Hyperbola, fit, law

SIZES = np.array([16, 32, 64, 128, 256, 512, 1024])


def samples(critical: float, least: float) -> np.ndarray:
    return least * (critical + SIZES)


@pytest.mark.parametrize("critical", [5.0, 300.0, 1087.0, 20_000.0])
def test_exact_data_give_back_their_parameters(critical: float) -> None:
    found = fit(SIZES, samples(critical, 80.0))
    assert found.critical_size == pytest.approx(critical, rel=1e-4)
    assert found.least_updates == pytest.approx(80.0, rel=1e-4) and found.residual < 1e-6 and found.is_bent


def test_noisy_data_are_fitted_as_scipy_does() -> None:
    random = np.random.default_rng(0)
    counts = samples(300.0, 80.0) * np.exp(0.1 * random.standard_normal(len(SIZES)))
    (log_least, log_critical), _ = curve_fit(
        lambda size, a, c: a + np.log1p(np.exp(c) / size), SIZES, np.log(counts / SIZES), p0=[4.0, 5.0]
    )
    found = fit(SIZES, counts)
    assert math.log(found.critical_size) == pytest.approx(log_critical, abs=1e-4)
    assert math.log(found.least_updates) == pytest.approx(log_least, abs=1e-4)
    rest = np.log(counts / SIZES) - np.log([found.updates(size) for size in SIZES])
    assert found.residual == pytest.approx(float(np.sqrt((rest**2).mean())))


def test_it_is_the_law_in_its_other_form() -> None:
    found = Hyperbola(critical_size=287.0, least_updates=84.0, residual=0.0, low=16, high=1024)
    for size in SIZES:
        product = (found.updates(size) / found.least_updates - 1) * (found.samples(size) / found.least_samples - 1)
        assert product == pytest.approx(1.0)


@pytest.mark.parametrize("power", [0.0, 1.0])
def test_data_without_a_bend_are_said_to_have_none(power: float) -> None:
    # As many samples, or as many updates, whatever the size.
    assert not fit(SIZES, 1e5 * SIZES**power).is_bent


def test_interval_covers_and_grows_with_the_spread_of_the_seeds() -> None:
    random, covered = np.random.default_rng(1), 0
    for _ in range(60):
        seeds = {int(size): count * np.exp(0.15 * random.standard_normal(8)) for size, count in
                 zip(SIZES, samples(300.0, 80.0), strict=True)}  # fmt: skip
        interval = law(seeds, num_draws=200).critical_size()
        covered += interval.low <= 300.0 <= interval.high
    assert covered >= 51  # 95 % of 60 is 57; with 8 seeds a bootstrap covers a little less


def test_ratio_of_times_is_that_of_samples_times_that_of_seconds_a_sample() -> None:
    found = law({int(size): [count] * 3 for size, count in zip(SIZES, samples(300.0, 80.0), strict=True)}, num_draws=10)
    assert found.ratio(256, 32, seconds=0.5).estimate == pytest.approx(0.5 * (300 + 256) / (300 + 32), rel=1e-4)
    assert found.ratio(256, 32).low == pytest.approx(found.ratio(256, 32).high)
    assert found.fitted.holds(1024) and not found.fitted.holds(2048)


@pytest.mark.parametrize("overhead", [0.05, 0.2, 1.0, 5.0])
def test_accumulating_pays_where_the_times_to_the_target_say_so(overhead: float) -> None:
    # Time to target per sample: (t_b + t_o / a) / b times E_min + S_min a b, against a = 1 (FORMULAS A4).
    found, micro = Hyperbola(300.0, 80.0, 0.0, 16, 1024), Accumulation(32, 0.001, 0.001 * overhead)

    def seconds(a: int) -> float:
        return (micro.micro_seconds + micro.update_seconds / a) / 32 * found.samples(32 * a)

    for a in (2, 4, 8, 16):
        assert micro.pays(a, 300.0) == (seconds(a) < seconds(1))
    best = micro.best(300.0)
    continuous = np.linspace(0.2, 40, 4000)
    times = [(0.001 + 0.001 * overhead / a) * (300.0 + 32 * a) for a in continuous]
    assert best == pytest.approx(continuous[int(np.argmin(times))], abs=0.02)


def test_one_size_is_no_hyperbola() -> None:
    with pytest.raises(ValueError, match="two batch sizes"):
        fit([32, 32], [1.0, 2.0])
