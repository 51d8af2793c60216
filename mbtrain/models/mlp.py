"""A multi-layer perceptron; `hidden=[]` is linear (softmax) regression."""

import math
from collections.abc import Sequence

from torch import Tensor, nn


class Mlp(nn.Module):
    """Linear layers with ReLU between them, on the flattened input; no batch norm."""

    def __init__(
        self, *, input_shape: Sequence[int], num_outputs: int, hidden: Sequence[int] = (256,), dropout: float = 0.0
    ) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        width = math.prod(input_shape)
        for size in hidden:
            layers += [nn.Linear(width, size), nn.ReLU()] + ([nn.Dropout(dropout)] if dropout else [])
            width = size
        self.layers = nn.Sequential(*layers, nn.Linear(width, num_outputs))

    def forward(self, x: Tensor) -> Tensor:
        """Outputs [n, num_outputs] of inputs [n, ...]."""
        return self.layers(x if x.dim() == 2 else x.flatten(1))
