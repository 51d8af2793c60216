"""The estimates against populations whose noise is known, and Fieller's interval against simulation."""

import pytest
import torch
from torch import Tensor

from mbtrain.core.noise_scale import Noise, noise, norms, squares

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


def test_norms_are_zero_where_no_gradient_is_there() -> None:
    assert norms([None, None], torch.ones(())).tolist() == [0.0, 0.0]
    assert norms([None, torch.tensor([3.0, 4.0])], torch.ones(())).tolist() == [0.0, 5.0]


def test_groups_of_parameters_add_up() -> None:
    total = Noise(torch.tensor([1.0, 2.0]), torch.tensor([3.0, 4.5])).total
    assert (float(total.gradient_sq), float(total.trace)) == (3.0, 7.5)
