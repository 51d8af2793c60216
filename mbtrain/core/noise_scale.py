"""The gradient noise scale of a mini-batch cut into parts: McCandlish et al., arXiv 1812.06162, for any cut.

With m parts j of weights W_j (samples, or tokens) and mean gradients g_j it is a one-way analysis of variance:

    Q = sum_j W_j |g_j|^2     W = sum_j W_j     n = |sum_j W_j g_j / W|^2
    trace        S     = (Q - W n) / (m - 1)    of the covariance of one sample's gradient
    gradient_sq  |G|^2 = n - S / W              of the true gradient
    scale        S / |G|^2                      in samples (B_simple)

S and |G|^2 are unbiased where the noise of g_j is S / W_j: equal parts give McCandlish's form, parts of one sample the
per-example form. Drawn without replacement from N samples they are those of the population, not of the training set.
Their ratio is biased: mbtrain.plan.noise_average averages them apart and divides last.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from mbtrain.core.gradient import Gradient


class Noise(NamedTuple):
    """Estimates from one mini-batch, float64: 0-d, or one a group of parameters [groups], which add up."""

    gradient_sq: Tensor
    trace: Tensor

    @property
    def scale(self) -> Tensor:
        """B_simple in samples, with its sign: negative where gradient_sq is, which says it is not determined."""
        return self.trace / self.gradient_sq

    @property
    def total(self) -> "Noise":
        """Of all groups together."""
        return Noise(self.gradient_sq.sum(), self.trace.sum())


def noise(weighted_sq: Tensor, mean_sq: Tensor, *, weight: float | Tensor, num_parts: int | Tensor) -> Noise:
    """The estimates from Q, n, W and m.

    >>> noise(torch.tensor(10.0), torch.tensor(1.0), weight=8.0, num_parts=2)
    Noise(gradient_sq=tensor(0.7500), trace=tensor(2.))
    """
    trace = (weighted_sq - weight * mean_sq) / (num_parts - 1)
    return Noise(mean_sq - trace / weight, trace)


def norms(gradient: Gradient, like: Tensor) -> Tensor:
    """|g| of each parameter, [parameters], on the device of `like`; 0 where the loss does not reach it."""
    present = [one for one in gradient if one is not None]
    if not present:
        return like.new_zeros(len(gradient))
    found = torch.stack(torch._foreach_norm(present))  # pyright: ignore[reportPrivateImportUsage]
    if len(present) < len(gradient):
        places = torch.tensor([place for place, one in enumerate(gradient) if one is not None], device=like.device)
        found = found.new_zeros(len(gradient)).index_copy(0, places, found)
    return found


def squares(gradient: Gradient, like: Tensor) -> Tensor:
    """|g|^2 of each parameter, [parameters], as `like`."""
    return norms(gradient, like).to(like).square()


class Anova(NamedTuple):
    """What a mini-batch gives: Q [groups], n [groups], W, m."""

    weighted_sq: Tensor
    mean_sq: Tensor
    weight: float | Tensor
    num_parts: int | Tensor

    @property
    def noise(self) -> Noise:
        """The estimates, [groups]."""
        return noise(self.weighted_sq, self.mean_sq, weight=self.weight, num_parts=self.num_parts)
