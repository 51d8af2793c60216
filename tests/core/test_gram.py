"""Agreement of parts against its definitions."""

import pytest
import torch

from mbtrain.core.gram import agreement, gram
from mbtrain.core.noise_scale import noise


def drawn(count: int) -> torch.Tensor:
    return 0.3 + torch.randn(count, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(count))


def test_diversity_times_samples_is_one_plus_the_noise_scale() -> None:
    g = drawn(12)
    found = agreement(gram(g), torch.ones(12))
    assert float(found.diversity) == pytest.approx(float(g.square().sum() / g.sum(0).square().sum()), rel=1e-12)
    # B_simple of the mini-batch as a population: its covariance is divided by n, its gradient is the mean.
    scale = float(g.var(0, correction=0).sum() / g.mean(0).square().sum())
    assert 12 * float(found.diversity) == pytest.approx(1 + scale, rel=1e-12)


def test_cosine_is_the_mean_over_pairs() -> None:
    g = drawn(6)
    pairs = [torch.cosine_similarity(g[a], g[b], dim=0) for a in range(6) for b in range(a)]
    expected = torch.stack(pairs).mean()
    assert float(agreement(gram(g), torch.ones(6)).cosine) == pytest.approx(float(expected), rel=1e-12)


def test_tests_of_norm_and_inner_product_are_variances_of_the_mean() -> None:
    g, mean = drawn(9), drawn(9).mean(0)
    found = agreement(gram(g), torch.ones(9))
    assert float(found.norm_test) == pytest.approx(float(g.var(0).sum() / (9 * mean.square().sum())), rel=1e-12)
    expected = float((g @ mean).var() / (9 * mean.square().sum() ** 2))
    assert float(found.inner_product_test) == pytest.approx(expected, rel=1e-12)


def test_parts_of_several_samples_estimate_the_same_norm_test() -> None:
    g = 0.3 + torch.randn(4000, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(5))
    weights = torch.tensor([7.0, 3.0] * 400)
    ends = weights.cumsum(0).long()
    parts = torch.stack([g[end - int(w) : end].mean(0) for end, w in zip(ends, weights, strict=True)])
    whole, cut = agreement(gram(g), torch.ones(4000)), agreement(gram(parts), weights)
    assert float(cut.norm_test) == pytest.approx(float(whole.norm_test), rel=0.05)
    assert float(cut.inner_product_test) == pytest.approx(float(whole.inner_product_test), rel=0.15)
    assert float(cut.diversity) == pytest.approx(float(whole.diversity), rel=0.05)


def test_norm_test_is_noise_scale_over_batch() -> None:
    g = drawn(9)
    mean_sq = g.mean(0).square().sum()
    found = noise(g.square().sum(), mean_sq, weight=9.0, num_parts=9)
    assert float(agreement(gram(g), torch.ones(9)).norm_test) == pytest.approx(float(found.trace / (9 * mean_sq)))
