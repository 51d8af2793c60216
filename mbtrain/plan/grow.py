"""Larger mini-batches in place of smaller learning rates (`batch_schedule=grow`)."""

from bisect import bisect_right
from collections.abc import Callable

from mbtrain.plan.batch_schedule import Passes, Steps, size_of
from mbtrain.plan.refused import Refused
from mbtrain.plan.schedule import Step


class Grow:
    """Where `lr_schedule=step` would multiply the learning rate by its factor, the batch is divided by it instead.

    Smith et al. (arXiv 1711.00489): the noise of SGD goes with lr / (batch size x (1 - momentum)), so both ways anneal
    it alike, this one in fewer updates. The batch grows up to `most` samples, by default a tenth of the data; beyond
    that the learning rate falls after all, by what the batch could not grow. lr / size follows one curve throughout.
    """

    def __init__(self, *, size: int, lr_schedule: object, most: int | None = None) -> None:
        if not isinstance(lr_schedule, Step):
            raise Refused(
                "batch_schedule=grow: grows where lr_schedule=step would let the learning rate fall: "
                "set lr_schedule=step"
            )
        if not 0 < lr_schedule.factor < 1:
            raise Refused(
                f"lr_schedule.factor={lr_schedule.factor}: batch_schedule=grow divides the batch size by it: "
                "give a number above 0 and below 1"
            )
        self._size, self._step = size, lr_schedule
        self.needs_total = any(one.unit == "%" for one in lr_schedule.at)
        self._most = None if most is None else size_of("most", most)

    def __call__(self, horizon: Passes) -> Steps:
        """The sizes by samples gone past."""
        return list(zip([0, *self._drops(horizon)], self._grown(horizon), strict=True))

    def growth(self, horizon: Passes) -> Callable[[float], float]:
        """By samples, the batch size over that of the start; changes where the learning rate would."""
        drops, sizes = self._drops(horizon), self._grown(horizon)
        return lambda samples: sizes[bisect_right(drops, samples)] / sizes[0]

    def _drops(self, horizon: Passes) -> list[float]:
        try:
            return sorted(self._step.drops(horizon))
        except Refused as error:
            raise Refused(f"lr_schedule.at, where batch_schedule=grow grows: {error}") from None

    def _grown(self, horizon: Passes) -> list[int]:
        """The size before and after each drop."""
        tenth = horizon.num_samples // 10
        limit = max(self._size, tenth if self._most is None else min(self._most, horizon.num_samples))
        return [min(limit, round(self._size / self._step.factor**drops)) for drops in range(len(self._step.at) + 1)]
