"""The gradient noise scale of a mini-batch cut into parts: McCandlish et al., arXiv 1812.06162, for any cut.

With m parts j of weights W_j (samples, or tokens) and mean gradients g_j it is a one-way analysis of variance:

    Q = sum_j W_j |g_j|^2     W = sum_j W_j     n = |sum_j W_j g_j / W|^2
    trace        S     = (Q - W n) / (m - 1)    of the covariance of one sample's gradient
    gradient_sq  |G|^2 = n - S / W              of the true gradient
    scale        S / |G|^2                      in samples (B_simple)

S and |G|^2 are unbiased where the noise of g_j is S / W_j: equal parts give McCandlish's form, parts of one sample the
per-example form. Drawn without replacement from N samples they are those of the population, not of the training set.
Their ratio is biased, and |G|^2 of one mini-batch is often negative: averaged apart, divided last, signs kept.
"""

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor

from mbtrain.core.gradient import Gradient

# The normal quantile of a 95 % interval.
Z = 1.959963984540054


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


def squares(gradient: Gradient, like: Tensor) -> Tensor:
    """|g|^2 of each parameter, [parameters] as `like`; 0 where the loss does not reach it."""
    present = [one for one in gradient if one is not None]
    norms = torch.stack(torch._foreach_norm(present)).to(like)  # pyright: ignore[reportPrivateImportUsage]
    if len(present) < len(gradient):
        places = torch.tensor([place for place, one in enumerate(gradient) if one is not None], device=like.device)
        norms = norms.new_zeros(len(gradient)).index_copy(0, places, norms)
    return norms.square()


class Interval(NamedTuple):
    """An averaged scale and the ends of its 95 % interval; `high` is infinite where the noise hides the gradient."""

    scale: Tensor
    low: Tensor
    high: Tensor


class Averages:
    """Exponential averages of trace and gradient_sq apart, which count half after `half_life` samples.

    Kept are weighted sums of 1, s, g and their products, as a matrix [groups, 3, 3], and the sum of squared weights,
    from which the number of independent measurements follows. A measurement that is not finite is left out.
    """

    def __init__(self, num_groups: int, *, half_life: float, device: torch.device) -> None:
        self._half_life, self._seen_at = half_life, 0
        self._sums = torch.zeros(num_groups, 3, 3, dtype=torch.float64, device=device)
        self._squared_weights = torch.zeros((), dtype=torch.float64, device=device)

    def add(self, noise: Noise, *, samples_seen: int) -> None:
        """Take in [groups] estimates, measured after `samples_seen` samples of the run."""
        fading = 0.5 ** ((samples_seen - self._seen_at) / self._half_life)
        self._seen_at = samples_seen
        one = torch.stack([torch.ones_like(noise.trace), noise.trace, noise.gradient_sq], -1)  # [groups, 3]
        products = one.unsqueeze(-1) * one.unsqueeze(-2)
        is_finite = products.isfinite().all()
        self._sums = fading * self._sums + torch.where(is_finite, products, 0.0)
        self._squared_weights = fading**2 * self._squared_weights + is_finite

    @property
    def noise(self) -> Noise:
        """The averages, [groups]."""
        return Noise(self._sums[:, 0, 2] / self._sums[:, 0, 0], self._sums[:, 0, 1] / self._sums[:, 0, 0])

    def interval(self) -> Interval:
        """The ratio of the averages with Fieller's interval, [groups]; NaN from a single measurement."""
        return fieller(self._sums, self._squared_weights)

    def state(self) -> dict[str, Any]:
        """What a checkpoint keeps."""
        return {"sums": self._sums, "squared_weights": self._squared_weights, "seen_at": self._seen_at}

    def load(self, state: Mapping[str, Any]) -> None:
        """Go on from `state`."""
        self._sums = state["sums"].to(self._sums)
        self._squared_weights = state["squared_weights"].to(self._squared_weights)
        self._seen_at = state["seen_at"]


def fieller(sums: Tensor, squared_weights: Tensor) -> Interval:
    """Fieller's interval of a ratio of means: all R with (s - R g)^2 <= t^2 Var(s - R g).

    `sums` [..., 3, 3] are weighted sums of the products of (1, s, g). It is the delta method's where the denominator is
    well known, and unbounded where it does not differ from zero. Measurements count as independent.
    """
    count = sums[..., 0, 0].square() / squared_weights
    means = sums[..., 0, :] / sums[..., :1, 0]
    covariance = sums[..., 1:, 1:] / sums[..., :1, :1] - means[..., 1:, None] * means[..., None, 1:]
    # Cornish and Fisher's first term of Student's t, for small counts.
    t = Z * (1 + (Z**2 + 1) / (4 * (count - 1)))
    margin = covariance * (t.square() / (count - 1))[..., None, None]
    s, g = means[..., 1], means[..., 2]
    square, product, rest = g**2 - margin[..., 1, 1], s * g - margin[..., 0, 1], s**2 - margin[..., 0, 0]
    root = (product**2 - square * rest).clamp(min=0).sqrt()
    ends = torch.stack([(product - root) / square, (product + root) / square], -1)
    low, high = ends.amin(-1), ends.amax(-1)
    is_bounded = square > 0
    # Unbounded: all but what lies between the roots; a noise scale is not negative.
    low = torch.where(is_bounded, low, torch.where(rest > 0, high, 0.0))
    return Interval(s / g, low.clamp(min=0), torch.where(is_bounded, high, torch.full_like(high, math.inf)))


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
