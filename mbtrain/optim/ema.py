"""Averaged weights: an exponential moving average with a half-life in samples (`ema=1ep`)."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor


class Ema:
    """Average of `parameters` after each update; old weights count half after `half_life` samples.

    The start is the first weights; buffers (BN's running statistics) are not averaged.
    """

    def __init__(self, parameters: Sequence[Tensor], *, half_life: float) -> None:
        self._parameters, self._half_life = list(parameters), half_life
        self.average = [parameter.detach().clone() for parameter in parameters]

    @torch.no_grad()
    def update(self, num_samples: int) -> None:
        """Take in the weights after an update from `num_samples` samples."""
        torch._foreach_lerp_(  # pyright: ignore[reportPrivateImportUsage]
            self.average, self._parameters, 1 - 0.5 ** (num_samples / self._half_life)
        )

    def load(self, average: Sequence[Tensor]) -> None:
        """Put back what a checkpoint holds."""
        for mine, saved in zip(self.average, average, strict=True):
            mine.copy_(saved)

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """The averaged weights in the model's parameters, for the length of a block."""
        self._swap()
        try:
            yield
        finally:
            self._swap()

    @torch.no_grad()
    def _swap(self) -> None:
        for parameter, average in zip(self._parameters, self.average, strict=True):
            kept = parameter.clone()
            parameter.copy_(average)
            average.copy_(kept)
