"""Larger mini-batches where validation gets no better (`batch_schedule=plateau`)."""

import math
from collections.abc import Mapping
from typing import Any

from mbtrain.plan.batch_schedule import Passes, Steps, size_of
from mbtrain.plan.refused import Refused
from mbtrain.plan.score import is_better


class Plateau:
    """The batch size is multiplied by `factor` when `reads` did not get better in `patience` validations in a row.

    It grows up to `most` samples, by default a tenth of the data. After a growth the count begins anew.
    """

    def __init__(
        self, *, size: int, reads: str = "val/loss", factor: float = 2, patience: int = 3, most: int | None = None
    ) -> None:
        if isinstance(factor, bool) or not isinstance(factor, int | float) or not 1 < factor < math.inf:
            raise Refused(f"batch_schedule.factor={factor}: must be a number above 1")
        self.reads, self._factor, self._patience = reads, factor, size_of("patience", patience)
        self._size, self._most = size, None if most is None else size_of("most", most)
        self._limit, self._num_stale = size, 0
        self._best: float | None = None

    def __call__(self, horizon: Passes) -> Steps:
        """The size at the start."""
        self._limit = self.most(horizon)
        return [(0, self._size)]

    def most(self, horizon: Passes) -> int:
        """No size will be larger."""
        tenth = horizon.num_samples // 10
        return max(self._size, tenth if self._most is None else min(self._most, horizon.num_samples))

    def see(self, values: Mapping[str, float], *, samples_seen: int) -> int | None:
        """Look at a validation's results; the new size, None where it stays."""
        if self.reads not in values:
            raise Refused(f"batch_schedule.reads={self.reads}: not measured, choose from {', '.join(values)}")
        if is_better(self.reads, values[self.reads], than=self._best):
            self._best, self._num_stale = values[self.reads], 0
            return None
        self._num_stale += 1
        if self._num_stale < self._patience or self._size >= self._limit:
            return None
        self._size, self._num_stale = min(self._limit, round(self._size * self._factor)), 0
        return self._size

    def state(self) -> dict[str, Any]:
        """What a checkpoint needs."""
        return {"size": self._size, "num_stale": self._num_stale, "best": self._best}

    def load(self, state: Mapping[str, Any]) -> None:
        """Go on from `state`."""
        self._size, self._num_stale, self._best = state["size"], state["num_stale"], state["best"]
