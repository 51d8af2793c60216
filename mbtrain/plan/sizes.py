"""The batch size as a step function of the samples gone past."""

import math
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from fractions import Fraction

from mbtrain.plan.refused import Refused


class Sizes:
    """`steps` are (samples, size): from so many samples on, mini-batches have that size; the first is from 0 on.

    >>> sizes = Sizes([(0, 32), (1000, 64)])
    >>> sizes.at(999), sizes.at(1000), sizes.next_start(0)
    (32, 64, 1000)
    """

    def __init__(self, steps: Iterable[tuple[Fraction | float, int]]) -> None:
        self._starts: list[int] = []
        self._sizes: list[int] = []
        for start, size in steps:
            self._add(math.ceil(start), size)
        if not self._starts or self._starts[0] != 0 or self._sizes[-1] < 1:
            raise Refused("batch_schedule: must give a size of at least 1 from 0 samples on")

    @property
    def steps(self) -> Sequence[tuple[int, int]]:
        """Where each size begins, and the size; neighbours differ."""
        return list(zip(self._starts, self._sizes, strict=True))

    @property
    def largest(self) -> int:
        """The largest size."""
        return max(self._sizes)

    def at(self, samples: int) -> int:
        """The size of a mini-batch that begins when `samples` have gone past."""
        return self._sizes[bisect_right(self._starts, samples) - 1]

    def next_start(self, samples: int) -> int | None:
        """Where the size changes next after `samples`; None where it does not."""
        place = bisect_right(self._starts, samples)
        return self._starts[place] if place < len(self._starts) else None

    def _add(self, start: int, size: int) -> None:
        if self._starts and start < self._starts[-1]:
            raise Refused(f"batch_schedule: the step at {start:,} samples comes after one at {self._starts[-1]:,}")
        if self._starts and start == self._starts[-1]:
            self._starts.pop()
            self._sizes.pop()
        if not self._sizes or size != self._sizes[-1]:
            self._starts.append(start)
            self._sizes.append(size)
