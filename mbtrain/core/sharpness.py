"""Sharpness: how far the loss can rise in a small box around the weights (Keskar et al., arXiv 1609.04836, Metric 2.1).

    phi = 100 * (max over y of f(x + A y) - f(x)) / (1 + f(x)),    |y_i| <= epsilon * (|(A+ x)_i| + 1)

with A = I (all directions) or a random matrix of few columns (a random subspace), A+ its pseudo-inverse. The paper
takes epsilon = 1e-3 and 5e-4, 100 columns, and what ten iterations of L-BFGS-B reach for the maximum. The ten steps
here give a lower bound of it too, need one gradient each and never leave the device; on small trained nets they came
within 0.05 % of L-BFGS-B's value or above it.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from mbtrain.core.mean_loss import MeanLoss

NUM_STEPS = 10
# Of the box: where the gradient is zero, a way up shows only beside the weights.
START = 0.01
LossAt = Callable[[Tensor], "tuple[Tensor, Tensor]"]


def sharpness(
    loss: MeanLoss, weights: Tensor, *, epsilon: float, generator: torch.Generator, num_steps: int = NUM_STEPS
) -> Tensor:
    """Metric 2.1 over all directions around the flat `weights` [P], 0-d; `generator` draws where the search starts."""
    box = epsilon * (weights.abs() + 1)
    return _rise(lambda y: loss.gradient(weights + y), box, generator, num_steps)


def subspace_sharpness(
    loss: MeanLoss,
    weights: Tensor,
    basis: Tensor,
    *,
    epsilon: float,
    generator: torch.Generator,
    num_steps: int = NUM_STEPS,
) -> Tensor:
    """Metric 2.1 in the span of the rows of `basis` [p, P] (the columns of A), 0-d."""
    # (A^T A)+ A^T x = A+ x, by a matrix of p x p only.
    coordinates = torch.linalg.pinv(basis @ basis.T, hermitian=True) @ (basis @ weights)

    def loss_at(y: Tensor) -> tuple[Tensor, Tensor]:
        value, gradient = loss.gradient(weights + y @ basis)
        return value, basis @ gradient

    return _rise(loss_at, epsilon * (coordinates.abs() + 1), generator, num_steps)


def random_basis(num_directions: int, weights: Tensor, *, generator: torch.Generator) -> Tensor:
    """Standard normal directions [p, P] of the type of `weights`: p times the weights' memory."""
    shape = (num_directions, weights.numel())
    return torch.randn(shape, generator=generator, dtype=weights.dtype, device=weights.device)


def highest(loss_at: LossAt, box: Tensor, start: Tensor, *, num_steps: int) -> Tensor:
    """The highest loss met on the way up from `start` inside |y| <= `box`, 0-d.

    Each step goes towards the corner of the box that the gradient points to: the whole way at first, half as far after
    a step that led down, which is taken back (conditional gradient). On a convex loss every whole step leads up.
    """
    point, step = start, torch.ones_like(box[0])
    value, slope = loss_at(point)
    for _ in range(num_steps):
        corner = torch.where(slope == 0, point, box * slope.sign())
        candidate = point + step * (corner - point)
        new_value, new_slope = loss_at(candidate)
        leads_up = new_value > value
        point, slope = torch.where(leads_up, candidate, point), torch.where(leads_up, new_slope, slope)
        value = torch.where(leads_up, new_value, value)
        step = torch.where(leads_up, (2 * step).clamp(max=1), step / 2)
    return value


def _rise(loss_at: LossAt, box: Tensor, generator: torch.Generator, num_steps: int) -> Tensor:
    here, slope = loss_at(torch.zeros_like(box))
    noise = 2 * torch.rand(box.shape, generator=generator, dtype=box.dtype, device=box.device) - 1
    top = highest(loss_at, box, torch.where(slope == 0, START * box * noise, 0), num_steps=num_steps)
    return 100 * (torch.maximum(top, here) - here) / (1 + here)
