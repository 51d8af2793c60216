"""A memory that runs out when a test says so, in the models of this package."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch

from mbtrain.models.cnn import Cnn
from mbtrain.models.mlp import Mlp
from mbtrain.training.module import MiniBatchModule


class Memory:
    """Raises the device's error after a forward pass in training for which `is_too_much` holds.

    It is asked with the iteration (from 1; 0 in a dry run) and the number of samples. What the pass has moved, it has
    moved: the error comes after it. `passes` are the sizes of all of them, `num_raised` how many ran out.
    """

    def __init__(self) -> None:
        self.is_too_much: Callable[[int, int], bool] = lambda iteration, size: False
        self.error: Callable[[], Exception] = lambda: torch.OutOfMemoryError("CUDA out of memory.")
        self.see: Callable[[int, int, torch.nn.Module], None] = lambda iteration, size, model: None
        self.iteration, self.num_raised = 0, 0
        self.passes: list[tuple[int, int]] = []

    def limit(self, size: int, *, iteration: int = 0) -> None:
        """From `iteration` on nothing larger than `size` goes through."""
        self.is_too_much = lambda at, samples: at >= iteration and samples > size

    def forward(self, real: Callable[..., Any]) -> Callable[..., Any]:
        def limited(model: torch.nn.Module, x: torch.Tensor) -> torch.Tensor:
            if not model.training:
                return real(model, x)
            self.passes.append((self.iteration, len(x)))
            self.see(self.iteration, len(x), model)
            output = real(model, x)
            if self.is_too_much(self.iteration, len(x)):
                self.num_raised += 1
                raise self.error()
            return output

        return limited

    def restart(self) -> None:
        """Another process begins."""
        self.num_raised, self.passes = 0, []


@pytest.fixture
def memory(monkeypatch: pytest.MonkeyPatch) -> Iterator[Memory]:
    """The memory that the models of a test train in."""
    fake, step = Memory(), MiniBatchModule.training_step
    for model in (Mlp, Cnn):
        monkeypatch.setattr(model, "forward", fake.forward(model.forward))

    def noted(self: Any, mini_batch: Any, batch_idx: int) -> None:
        fake.iteration = mini_batch.iteration.index + 1
        try:
            step(self, mini_batch, batch_idx)
        finally:
            fake.iteration = 0

    monkeypatch.setattr(MiniBatchModule, "training_step", noted)
    yield fake
