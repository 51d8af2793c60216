"""Mini-batches of at most so many tokens: where each ends depends on the lengths in the order of its epoch."""

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import accumulate, pairwise

from mbtrain.plan.iteration import Iteration

# The tokens of each sample of an epoch, in the order in which they come.
LengthsOf = Callable[[int], Sequence[int]]


@dataclass(frozen=True)
class TokenLimit:
    """`batch.max_tokens`, and the lengths that it counts."""

    most: int
    lengths_of: LengthsOf


class TokenMiniBatches:
    """Each mini-batch takes samples in turn while it holds at most `limit.most` tokens and `batch_size` samples.

    Epochs are walked only as far as they are asked for; no sample has more tokens than that.
    """

    def __init__(self, limit: TokenLimit, num_samples: int, batch_size: int) -> None:
        self.samples_per_epoch = num_samples
        self._limit, self._batch_size = limit, batch_size
        self._firsts = [0]  # iteration with which each epoch begins, and one more
        self._starts: list[list[int]] = []  # of each mini-batch of an epoch, and the epoch's end

    def iteration(self, index: int) -> Iteration:
        """Where iteration `index` (from 0) stands."""
        while index >= self._firsts[-1]:
            self._extend()
        epoch = bisect_right(self._firsts, index) - 1
        starts, place = self._starts[epoch], index - self._firsts[epoch]
        start, stop = starts[place], starts[place + 1]
        before = epoch * self.samples_per_epoch + start
        is_last = place == len(starts) - 2
        return Iteration(index, epoch, start, stop - start, before, is_last, self._batch_size)

    def num_reaching(self, samples: Fraction) -> int:
        """The number of iterations after which at least `samples` have gone past."""
        epochs, rest = divmod(samples, self.samples_per_epoch)
        epoch = int(epochs)
        first = self.first_of_epoch(epoch)
        return first + (bisect_left(self._starts_of(epoch), rest) if rest else 0)

    def first_of_epoch(self, epoch: int) -> int:
        """The index of the first iteration of an epoch (from 0)."""
        while len(self._firsts) <= epoch:
            self._extend()
        return self._firsts[epoch]

    def sizes_within(self, num_iterations: int) -> tuple[int, ...]:
        """The sizes of mini-batch that occur in so many iterations, in the order of their first."""
        last = self.iteration(num_iterations - 1)
        sizes: dict[int, None] = {}
        for epoch in range(last.epoch + 1):
            of_epoch = [stop - start for start, stop in pairwise(self._starts[epoch])]
            sizes |= dict.fromkeys(of_epoch[: num_iterations - self._firsts[epoch]])
        return tuple(sizes)

    def _starts_of(self, epoch: int) -> list[int]:
        self.first_of_epoch(epoch + 1)
        return self._starts[epoch]

    def _extend(self) -> None:
        ends = list(accumulate(self._limit.lengths_of(len(self._starts))))
        starts, gone = [0], 0
        while starts[-1] < len(ends):
            stop = bisect_right(ends, gone + self._limit.most, lo=starts[-1])
            stop = min(stop, starts[-1] + self._batch_size)
            starts.append(stop)
            gone = ends[stop - 1]
        self._starts.append(starts)
        self._firsts.append(self._firsts[-1] + len(starts) - 1)
