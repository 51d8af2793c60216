"""The learning rate of a setting: the same effort for all, on a grid that grows until the best is inside it."""

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from mbtrain.study.design import Grid, Target


@dataclass
class Search:
    """The steps of the grid tried so far for one setting, and the score of each (infinite where a run diverged)."""

    grid: Grid
    middle: float
    scores: dict[int, float] = field(default_factory=dict)
    steps: list[int] = field(init=False)
    _low: int = field(init=False)
    _high: int = field(init=False)
    _stride: int = field(init=False)

    def __post_init__(self) -> None:
        self._stride = self.grid.stride
        self._low = -(self.grid.points // 2) * self._stride
        self._high = self._low + (self.grid.points - 1) * self._stride
        self.steps = list(range(self._low, self._high + 1, self._stride))

    @property
    def best(self) -> int | None:
        """The step of least score; None where every one diverged."""
        finite = {step: score for step, score in self.scores.items() if math.isfinite(score)}
        return min(finite, key=lambda step: (finite[step], step)) if finite else None

    @property
    def best_rate(self) -> float | None:
        """Its learning rate."""
        return None if self.best is None else self.rate(self.best)

    @property
    def best_score(self) -> float:
        """Its score; infinite where every one diverged."""
        return math.inf if self.best is None else self.scores[self.best]

    @property
    def is_inside(self) -> bool:
        """Whether the best has a neighbour on each side that is worse, or diverged."""
        return self.best is not None and self._low < self.best < self._high

    def rate(self, step: int) -> float:
        """The learning rate of a step."""
        return self.grid.rate(self.middle, step)

    def note(self, step: int, scores: Sequence[float]) -> None:
        """Take in the runs of a step: their mean and a standard error, so that a lucky seed does not choose alone.

        One run without a finite score puts the step out.
        """
        if not scores or not all(map(math.isfinite, scores)):
            self.scores[step] = math.inf
            return
        error = statistics.stdev(scores) / math.sqrt(len(scores)) if len(scores) > 1 else 0.0
        self.scores[step] = statistics.fmean(scores) + error

    def widen(self) -> bool:
        """Add the step beyond the end where the best is, then those between; False where it was enough."""
        if not self.is_inside:
            return self._extend()
        if self._stride == 1:
            return False
        assert self.best is not None
        self._stride //= 2
        self.steps += [self.best - self._stride, self.best + self._stride]
        return True

    def _extend(self) -> bool:
        if (self._high - self._low) // self._stride + 1 >= self.grid.points + self.grid.most_extensions:
            return False
        if self.best is None or self.best == self._low:
            self._low -= self._stride
            self.steps.append(self._low)
        else:
            self._high += self._stride
            self.steps.append(self._high)
        return True


def loss_of(result: Mapping[str, Any]) -> float:
    """The validation loss of a run's end; infinite where it has none or diverged."""
    loss = result.get("val/loss")
    return math.inf if loss is None else loss


def samples_to(target: Target, result: Mapping[str, Any]) -> float:
    """The samples that a run took to the target: it stopped there.

    One that did not get there scores worse the further it is from it, so that a search knows where to go on.
    """
    score = result.get(target.key)
    if score is None or not math.isfinite(score):
        return math.inf
    return result["samples_seen"] * (1.0 if score <= target.below else 1.0 + score / target.below)
