"""The learning rate of each case and arm: the same effort for all, on a grid that grows until the best is inside it."""

import math
import statistics
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from mbtrain.study.design import Grid


@dataclass
class Search:
    """One case and arm: the steps tried so far, and the mean loss at each (infinite where a run diverged)."""

    grid: Grid
    low: int = field(init=False)
    high: int = field(init=False)
    losses: dict[int, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.low = -(self.grid.points // 2)
        self.high = self.low + self.grid.points - 1

    @property
    def steps(self) -> range:
        """The steps of the grid as it is."""
        return range(self.low, self.high + 1)

    @property
    def best(self) -> int | None:
        """The step of least mean loss; None where every one diverged."""
        finite = {step: loss for step, loss in self.losses.items() if math.isfinite(loss)}
        return min(finite, key=lambda step: (finite[step], step)) if finite else None

    @property
    def is_inside(self) -> bool:
        """Whether the best has a neighbour on each side that is worse, or diverged."""
        return self.best is not None and self.low < self.best < self.high

    def note(self, step: int, losses: list[float | None]) -> None:
        """Take in the runs of a step: one without a finite loss puts the step out."""
        finite = [loss for loss in losses if loss is not None and math.isfinite(loss)]
        self.losses[step] = statistics.fmean(finite) if losses and len(finite) == len(losses) else math.inf

    def widen(self) -> bool:
        """Add the step beyond the end where the best is; False where nothing is to be gained, or it was enough."""
        if self.is_inside or len(self.steps) >= self.grid.points + self.grid.most_extensions:
            return False
        if self.best is None or self.best == self.low:
            self.low -= 1
        else:
            self.high += 1
        return True


def loss_of(result: Mapping[str, Any] | None) -> float | None:
    """The validation loss of a run's end; None where it has none."""
    return None if result is None else result.get("val/loss")
