"""Squared norms of per-example gradients in closed form, from what goes into a layer and the gradient at its output.

Linear layers: arXiv 1510.01799 (|x|^2 |d|^2 of one position); layer norm: arXiv 2411.00999. No gradient of a sample is
ever made, except where a sequence is so long that it is cheaper.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def layer_squares(layer: nn.Module, inputs: Tensor, slope: Tensor) -> list[Tensor]:
    """|g_i|^2 [n] of each parameter of `layer`: weight, then bias where it has one.

    `inputs` and `slope` (the gradient of the summed loss at the layer's output) are [n, ..., features].
    """
    inputs, slope = inputs.to(_precise(inputs)), slope.to(_precise(slope))
    if isinstance(layer, nn.Linear) and inputs.dim() == 2:
        # As linear_squares has it; the bias needs the slopes' part of it. Norms stay precise under autocast, and to
        # leave it would cost more than they do.
        bias = torch.linalg.vector_norm(slope, dim=1).square()
        weight = torch.linalg.vector_norm(inputs, dim=1).square() * bias
        return [weight] if layer.bias is None else [weight, bias]
    with torch.autocast(inputs.device.type, enabled=False):
        return _squares(layer, inputs, slope)


def _squares(layer: nn.Module, inputs: Tensor, slope: Tensor) -> list[Tensor]:
    if isinstance(layer, nn.Linear):
        weight = linear_squares(inputs, slope)
    elif isinstance(layer, nn.LayerNorm):
        normed = F.layer_norm(inputs, layer.normalized_shape, eps=layer.eps)
        weight = _summed(normed * slope, len(layer.normalized_shape)).square().sum(1)
    else:
        raise TypeError(f"{type(layer).__name__} has no closed form")
    if layer.bias is None:
        return [weight]
    width = len(layer.normalized_shape) if isinstance(layer, nn.LayerNorm) else 1
    return [weight, _summed(slope, width).square().sum(1)]


def linear_squares(inputs: Tensor, slope: Tensor) -> Tensor:
    """|sum_t d_it x_it'|^2 [n] of inputs [n, ..., in] and slopes [n, ..., out]; t are the positions between.

    >>> linear_squares(torch.tensor([[3.0, 4.0]]), torch.tensor([[2.0]]))
    tensor([100.])
    """
    if inputs.dim() == 2:
        return (torch.linalg.vector_norm(inputs, dim=1) * torch.linalg.vector_norm(slope, dim=1)).square()
    x, d = inputs.flatten(1, -2), slope.flatten(1, -2)  # [n, positions, features]
    positions, wide, tall = x.shape[1], x.shape[2], d.shape[2]
    if positions * (wide + tall) < wide * tall:
        return (torch.bmm(x, x.mT) * torch.bmm(d, d.mT)).sum((1, 2))
    return torch.bmm(d.mT, x).square().sum((1, 2))


def has_closed_form(layer: nn.Module) -> bool:
    """Whether `layer_squares` knows the layer."""
    return type(layer) in (nn.Linear, nn.LayerNorm)


def _summed(values: Tensor, width: int) -> Tensor:
    """Sums over positions, [n, features], of values [n, ..., *features]; `features` are `width` dimensions."""
    return values.reshape(len(values), -1, math.prod(values.shape[values.dim() - width :])).sum(1)


def _precise(values: Tensor) -> torch.dtype:
    return torch.promote_types(values.dtype, torch.float32)
