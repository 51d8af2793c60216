"""The contract of a probe: a callable that declares what it needs; the run says when."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from torch import Tensor, nn

from mbtrain.plan.duration import Cadence
from mbtrain.plan.run import Iteration


class Probe(Protocol):
    """Called at a due iteration, after the gradient is there and before the update; gives columns of its row.

    The values are 0-d tensors on the device: a probe never waits for the device and never writes to what it sees.
    """

    needs_micro_gradients: bool

    def see_micro_gradient(self, weight: float | Tensor, gradient: Sequence[Tensor | None]) -> None:
        """Look at one micro-batch's weight and mean gradient, where `needs_micro_gradients`."""
        ...

    def forget(self) -> None:
        """Drop what was seen of this iteration: memory ran out, and its micro-gradients are shown anew, cut smaller."""
        ...

    def __call__(self, parameters: Sequence[nn.Parameter]) -> dict[str, Tensor]:
        """Columns of the row; `p.grad` is the (clipped) mean gradient of the whole mini-batch."""
        ...


@dataclass(frozen=True)
class Scheduled:
    """A probe and when it is due."""

    probe: Any
    cadence: Cadence

    def is_due(self, iteration: Iteration) -> bool:
        """Whether it measures at this iteration."""
        return self.cadence.is_due(iteration.index, iteration.samples_before, iteration.samples_after)
