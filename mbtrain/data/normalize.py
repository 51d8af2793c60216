"""Normalisation: raw input -> (input - mean) / std, with constants of the training part."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from mbtrain.plan.refused import Refused


class Normalize(nn.Module):
    """`(input - mean) / std` in `dtype`, for raw inputs of any number type.

    One subtraction and one division, each correctly rounded on every device: a CPU and a GPU give the same bits.
    The constants are float64 and meet float64 inputs as such, so that a large mean (a date) cancels before rounding.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, mean: Tensor, std: Tensor, *, dtype: torch.dtype) -> None:
        super().__init__()
        self.dtype = dtype
        self.register_buffer("mean", mean.double())
        self.register_buffer("std", std.double())

    def forward(self, raw: Tensor) -> Tensor:
        """Normalise a batch [n, ...]."""
        work = torch.promote_types(raw.dtype, self.dtype)
        mean, std = self.mean.to(raw.device, work), self.std.to(raw.device, work)
        return ((raw.to(work) - mean) / std).to(self.dtype)


def is_image(raw: Tensor) -> bool:
    """Whether a raw batch holds pixels from 0 to 255: uint8 with at least two dimensions a sample."""
    return raw.dtype == torch.uint8 and raw.ndim > 2


def unit_range(dtype: torch.dtype) -> Normalize:
    """Pixels from 0..255 to 0..1: what a uint8 image becomes where normalisation is off."""
    return Normalize(torch.tensor(0.0), torch.tensor(255.0), dtype=dtype)


def fit_normalize(batches: Iterable[Tensor], *, dtype: torch.dtype) -> Normalize:
    """The normalisation to mean 0 and standard deviation 1 of all samples in `batches` (the training part).

    Per channel for [n, C, H, W] and more dimensions, per feature for [n, features], one constant for [n, H, W].
    A feature that never changes gets the scale 1. Means and squared deviations of batches are merged by Chan, Golub
    and LeVeque's rule (1979), so one pass serves data that do not fit in memory.

    >>> fit_normalize([torch.tensor([[1.0], [3.0]])], dtype=torch.float64)(torch.tensor([[5.0]]))
    tensor([[3.]], dtype=torch.float64)
    """
    count, dimensions = 0, 0
    mean = squares = low = high = torch.zeros(())
    for batch in batches:
        values = batch.double()  # [n, ...]
        dimensions = values.ndim
        axes = _axes(dimensions)
        size = values.numel() // max(1, torch.amax(values, axes).numel())
        batch_mean = values.mean(axes)
        batch_squares = (values - _expand(batch_mean, dimensions)).square().sum(axes)
        batch_low, batch_high = torch.amin(values, axes), torch.amax(values, axes)
        if count == 0:
            count, mean, squares, low, high = size, batch_mean, batch_squares, batch_low, batch_high
            continue
        shift, total = batch_mean - mean, count + size
        squares = squares + batch_squares + shift.square() * (count * size / total)
        mean = mean + shift * (size / total)
        low, high, count = torch.minimum(low, batch_low), torch.maximum(high, batch_high), total
    std = (squares / count).sqrt()
    # Equality of the extremes is exact, where a rounded variance of a constant feature need not be 0.
    std = torch.where((low == high) | (std == 0), torch.ones_like(std), std)
    if not bool(torch.isfinite(mean).all() and torch.isfinite(std).all()):
        raise Refused("dataset.normalize=true: the training inputs have no finite mean and spread: fill in or drop NaN")
    return Normalize(_expand(mean, dimensions), _expand(std, dimensions), dtype=dtype)


def _axes(dimensions: int) -> tuple[int, ...]:
    """The axes that share a constant."""
    kept = 1 if dimensions == 2 or dimensions > 3 else None
    return tuple(axis for axis in range(dimensions) if axis != kept)


def _expand(constants: Tensor, dimensions: int) -> Tensor:
    """Constants of the kept axis, shaped to broadcast over a batch of that many dimensions."""
    return constants.reshape(-1, *(1,) * (dimensions - 2)) if dimensions > 3 else constants
