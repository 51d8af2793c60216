"""Clipping by the global norm of the gradient."""

import torch
from torch import Tensor

from mbtrain.core.gradient import Gradient


def global_norm(gradient: Gradient) -> Tensor:
    """The 2-norm of all gradients together, 0-d, on the device."""
    return torch.nn.utils.get_total_norm([one for one in gradient if one is not None])


def clipped(gradient: Gradient, max_norm: float, norm: Tensor) -> Gradient:
    """`gradient` scaled to a global norm of at most `max_norm` (as torch.nn.utils.clip_grad_norm_ does it)."""
    factor = (max_norm / (norm + 1e-6)).clamp(max=1.0)
    return [None if one is None else one * factor for one in gradient]
