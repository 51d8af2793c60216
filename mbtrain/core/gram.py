"""What the inner products of a mini-batch's parts say: how alike they are, and how sure their mean is.

K [m, m] holds the inner products g_j . g_k of the parts' mean gradients, W [m] their weights (samples or tokens).
"""

from typing import NamedTuple

import torch
from torch import Tensor

from mbtrain.core.noise_scale import Anova, Noise


class Agreement(NamedTuple):
    """Each 0-d. A mini-batch of equal samples has diversity 1 / W, cosine 1, and both tests 0."""

    diversity: Tensor
    cosine: Tensor
    norm_test: Tensor
    inner_product_test: Tensor


def gram(gradients: Tensor) -> Tensor:
    """Inner products [m, m], float64, of gradients [m, numbers]."""
    with torch.autocast(gradients.device.type, enabled=False):
        return (gradients @ gradients.mT).double()


def agreement(products: Tensor, weights: Tensor) -> Agreement:
    """From K and W, for the samples of the mini-batch; exact for parts of one sample, else estimated.

    diversity           sum_i |g_i|^2 / |sum_i g_i|^2 (Yin et al., arXiv 1706.05699): 1/W to 1 where samples agree
    cosine              of two parts, the mean over all pairs
    norm_test           S / (W |g|^2), to be kept below theta^2 (Byrd et al. 2012)
    inner_product_test  Var(g_i . g) / (W |g|^4), likewise (Bollapragada et al., arXiv 1710.11258)

    >>> agreement(torch.eye(2), torch.ones(2)).diversity
    tensor(1., dtype=torch.float64)
    """
    products, weights = products.double(), weights.double()
    total, num_parts = weights.sum(), len(weights)
    along = products @ (weights / total)  # g_j . g
    mean_sq = along @ (weights / total)
    spread = _anova(products, weights, mean_sq).trace
    lengths = products.diagonal().sqrt()
    cosines = products / (lengths[:, None] * lengths)
    pairs = num_parts * (num_parts - 1)
    along_variance = (weights * (along - mean_sq).square()).sum() / (num_parts - 1)
    return Agreement(
        diversity=(1 + spread * (1 - 1 / total) / mean_sq) / total,
        cosine=(cosines.sum() - cosines.diagonal().sum()) / pairs,
        norm_test=spread / (total * mean_sq),
        inner_product_test=along_variance / (total * mean_sq.square()),
    )


def _anova(products: Tensor, weights: Tensor, mean_sq: Tensor) -> Noise:
    return Anova((weights * products.diagonal()).sum(), mean_sq, weights.sum(), len(weights)).noise
