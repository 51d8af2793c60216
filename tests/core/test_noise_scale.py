"""The estimates against populations whose noise is known, and Fieller's interval against simulation."""

import math

import pytest
import torch
from torch import Tensor

from mbtrain.core.noise_scale import Averages, Noise, fieller, noise, norms, squares

DRAWS, DIMENSION = 200_000, 4
SPREAD = torch.tensor([0.5, 1.0, 2.0, 0.3], dtype=torch.float64)
TRUTH = torch.tensor([0.6, -0.5, 0.7, 0.4], dtype=torch.float64)
TRACE, GRADIENT_SQ = float(SPREAD.square().sum()), float(TRUTH.square().sum())


def parts_of(weights: list[float], seed: int) -> Tensor:
    """Mean gradients [draws, parts, dimension] of parts that hold `weights` samples each."""
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(DRAWS, len(weights), DIMENSION, dtype=torch.float64, generator=generator)
    return TRUTH + SPREAD * noise / torch.tensor(weights, dtype=torch.float64)[:, None].sqrt()


def estimates(weights: list[float], parts: Tensor) -> Noise:
    """The mean over all draws."""
    share = torch.tensor(weights, dtype=torch.float64)
    mean = (share[:, None] * parts).sum(1) / share.sum()
    weighted_sq, mean_sq = (share * parts.square().sum(2)).sum(1), mean.square().sum(1)
    found = noise(weighted_sq, mean_sq, weight=float(share.sum()), num_parts=len(weights))
    return Noise(found.gradient_sq.mean(), found.trace.mean())


@pytest.mark.parametrize(
    "weights",
    [[8] * 4, [10, 10, 10, 2], [20, 6, 5, 1], [1] * 16, [3, 1], [117.0, 40.0, 64.0, 3.0]],
    ids=["equal", "ragged", "very ragged", "per example", "two", "tokens"],
)
def test_estimates_are_those_of_the_population_whatever_the_cut(weights: list[float]) -> None:
    # The draws leave half a per cent of chance at most; where the weights are large the noise hardly shows.
    found = estimates(weights, parts_of(weights, seed=3))
    assert float(found.trace) == pytest.approx(TRACE, rel=0.01)
    assert float(found.gradient_sq) == pytest.approx(GRADIENT_SQ, rel=0.01)
    assert float(found.scale) == pytest.approx(TRACE / GRADIENT_SQ, rel=0.01)


@pytest.mark.parametrize("weights", [[10, 10, 10, 2], [20, 6, 5, 1]])
def test_the_form_for_equal_parts_fails_where_they_are_not(weights: list[float]) -> None:
    parts = parts_of(weights, seed=3)
    share = torch.tensor(weights, dtype=torch.float64)
    big, count = float(share.sum()), len(weights)
    small = big / count
    small_sq = parts.square().sum(2).mean()
    big_sq = ((share[:, None] * parts).sum(1) / big).square().sum(1).mean()
    naive = (small_sq - big_sq) / (1 / small - 1 / big)
    assert abs(float(naive) / TRACE - 1) > 0.5


def test_equal_parts_give_mccandlish_s_form() -> None:
    parts = parts_of([8, 8, 8], seed=1)[:5]
    small_sq, big_sq = parts.square().sum(2).mean(1), parts.mean(1).square().sum(1)
    found = noise(8 * parts.square().sum((1, 2)), big_sq, weight=24.0, num_parts=3)
    assert torch.allclose(found.trace, (small_sq - big_sq) / (1 / 8 - 1 / 24), rtol=1e-12)
    assert torch.allclose(found.gradient_sq, (24 * big_sq - 8 * small_sq) / (24 - 8), rtol=1e-12)


def test_without_replacement_they_are_those_of_the_population_not_of_the_training_set() -> None:
    generator = torch.Generator().manual_seed(0)
    data = TRUTH + SPREAD * torch.randn(40, DIMENSION, dtype=torch.float64, generator=generator)
    order = torch.rand(50_000, 40, generator=generator).argsort(1)[:, :16]
    drawn = data[order]  # [draws, 16, dimension]
    mean_sq = drawn.mean(1).square().sum(1)
    found = noise(drawn.square().sum((1, 2)), mean_sq, weight=16.0, num_parts=16)
    variance = float(data.var(0).sum())
    assert float(found.trace.mean()) == pytest.approx(variance, rel=0.01)
    assert float(found.gradient_sq.mean()) == pytest.approx(
        float(data.mean(0).square().sum()) - variance / 40, rel=0.02
    )


def test_squares_are_zero_where_there_is_no_gradient() -> None:
    like = torch.zeros((), dtype=torch.float64)
    assert squares([torch.tensor([3.0, 4.0]), None, torch.ones(2, 2)], like).tolist() == [25.0, 0.0, 4.0]


def measured(count: int, seed: int, *, snr: float = 3.0) -> tuple[Tensor, Tensor]:
    """Correlated measurements (s, g) [seeds, count] with means 4 and 0.5."""
    generator = torch.Generator().manual_seed(seed)
    first, second = torch.randn(2, 4000, count, dtype=torch.float64, generator=generator)
    g = 0.5 + 0.5 / snr * count**0.5 * first
    return 4 + first + 2 * second, g


def test_the_average_fades_by_half_in_the_half_life() -> None:
    averages = Averages(1, half_life=100, device=torch.device("cpu"))
    for samples, trace in ((100, 8.0), (200, 2.0), (400, 2.0)):
        averages.add(Noise(torch.tensor([1.0]), torch.tensor([trace])), samples_seen=samples)
    weights = [0.5**3, 0.5**2, 1.0]
    expected = sum(w * s for w, s in zip(weights, (8.0, 2.0, 2.0), strict=True)) / sum(weights)
    assert float(averages.noise.trace) == pytest.approx(expected, rel=1e-12)
    assert float(averages.interval().scale) == pytest.approx(expected, rel=1e-12)


def test_a_measurement_that_is_not_finite_is_left_out() -> None:
    averages = Averages(1, half_life=100, device=torch.device("cpu"))
    for samples, trace in ((100, 8.0), (200, math.nan), (300, 2.0)):
        averages.add(Noise(torch.tensor([1.0]), torch.tensor([trace])), samples_seen=samples)
    assert float(averages.noise.trace) == pytest.approx((8 * 0.25 + 2) / 1.25, rel=1e-12)


@pytest.mark.parametrize(("count", "snr"), [(20, 8.0), (20, 3.0), (8, 5.0)])
def test_the_interval_covers_as_often_as_it_says(count: int, snr: float) -> None:
    s, g = measured(count, seed=count, snr=snr)
    one = torch.stack([torch.ones_like(s), s, g], -1)
    sums = torch.einsum("nki,nkj->nij", one, one)
    found = fieller(sums, torch.tensor(float(count)))
    covers = (found.low <= 8) & (found.high >= 8)
    assert 0.94 <= float(covers.double().mean()) <= 0.965


def test_the_interval_is_unbounded_where_the_gradient_is_lost_in_noise() -> None:
    g = torch.tensor([0.1, -0.12, 0.15, -0.08], dtype=torch.float64)
    s = torch.tensor([4.0, 4.1, 3.9, 4.0], dtype=torch.float64)
    one = torch.stack([torch.ones_like(s), s, g], -1)
    found = fieller(one.mT @ one, torch.tensor(4.0))
    assert math.isinf(float(found.high)) and float(found.low) > 0


def test_a_single_measurement_has_no_interval() -> None:
    averages = Averages(1, half_life=100, device=torch.device("cpu"))
    averages.add(Noise(torch.tensor([1.0]), torch.tensor([4.0])), samples_seen=100)
    found = averages.interval()
    assert float(found.scale) == 4 and not float(found.low) > 0 and not math.isfinite(float(found.high))


def test_averages_go_on_bit_exactly() -> None:
    generator = torch.Generator().manual_seed(0)
    values = torch.rand(10, 2, 3, dtype=torch.float64, generator=generator)

    def filled(averages: Averages, start: int) -> Averages:
        for index in range(start, 10 if start else 5):
            averages.add(Noise(values[index, 0], values[index, 1]), samples_seen=32 * index)
        return averages

    first = filled(Averages(3, half_life=100, device=torch.device("cpu")), 0)
    other = Averages(3, half_life=100, device=torch.device("cpu"))
    other.load(first.state())
    one, two = filled(first, 5).interval(), filled(other, 5).interval()
    assert all(torch.equal(a, b) for a, b in zip(one, two, strict=True))


def test_norms_are_zero_where_no_gradient_is_there() -> None:
    assert norms([None, None], torch.ones(())).tolist() == [0.0, 0.0]
    assert norms([None, torch.tensor([3.0, 4.0])], torch.ones(())).tolist() == [0.0, 5.0]
