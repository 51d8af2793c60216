"""The mini-batches of all epochs, one after the other: by arithmetic for one size, by a table where the size moves."""

from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from fractions import Fraction
from typing import NamedTuple, Protocol

from mbtrain.plan.iteration import Iteration
from mbtrain.plan.sizes import Sizes


class MiniBatches(Protocol):
    """How every epoch is cut. An epoch is `samples_per_epoch` long: what Durations in epochs are measured by."""

    samples_per_epoch: int

    def iteration(self, index: int) -> Iteration:
        """Where iteration `index` (from 0) stands."""
        ...

    def num_reaching(self, samples: Fraction) -> int:
        """The number of iterations after which at least `samples` have gone past."""
        ...

    def first_of_epoch(self, epoch: int) -> int:
        """The index of the first iteration of an epoch (from 0)."""
        ...

    def sizes_within(self, num_iterations: int) -> tuple[int, ...]:
        """The sizes of mini-batch that occur in so many iterations, the first one's first."""
        ...


class EqualMiniBatches:
    """Mini-batches of one size, all but the ragged tail of an epoch, which `drop_last` leaves out of the epoch."""

    def __init__(self, num_samples: int, batch_size: int, *, drop_last: bool) -> None:
        full, rest = divmod(num_samples, batch_size)
        self.batch_size, self.tail = batch_size, 0 if drop_last else rest
        self.samples_per_epoch = full * batch_size + self.tail
        self.iterations_per_epoch = full + bool(self.tail)

    def iteration(self, index: int) -> Iteration:
        """Where iteration `index` (from 0) stands."""
        epoch, place = divmod(index, self.iterations_per_epoch)
        start, is_last = place * self.batch_size, place == self.iterations_per_epoch - 1
        size = self.tail if is_last and self.tail else self.batch_size
        return Iteration(index, epoch, start, size, epoch * self.samples_per_epoch + start, is_last, self.batch_size)

    def num_reaching(self, samples: Fraction) -> int:
        """The number of iterations after which at least `samples` have gone past."""
        epochs, rest = divmod(samples, self.samples_per_epoch)
        within = min(-(-rest // self.batch_size), self.iterations_per_epoch)
        return int(epochs) * self.iterations_per_epoch + int(within)

    def first_of_epoch(self, epoch: int) -> int:
        """The index of the first iteration of an epoch (from 0)."""
        return epoch * self.iterations_per_epoch

    def sizes_within(self, num_iterations: int) -> tuple[int, ...]:
        """The sizes of mini-batch that occur, the usual one first."""
        return (self.batch_size, self.tail) if self.tail else (self.batch_size,)


class Segment(NamedTuple):
    """`length` iterations of one size in one epoch, the first of them iteration `first`."""

    first: int
    epoch: int
    start: int
    size: int
    length: int
    batch_size: int
    ends_epoch: bool
    left_out_before: int
    left_out: int


class ScheduledMiniBatches:
    """Mini-batches whose size follows `sizes`: a table of segments, walked only as far as it is asked for.

    A size is looked up where a mini-batch begins. What an epoch has left when it is fewer than the size in force is a
    tail of that many samples; with `drop_last` it is left out.
    """

    def __init__(self, num_samples: int, sizes: Sizes, *, drop_last: bool) -> None:
        self.samples_per_epoch = num_samples
        self._sizes, self._drop_last = sizes, drop_last
        self._segments: list[Segment] = []
        self._firsts: list[int] = []
        self._befores: list[int] = []
        self._walk = self._walked()
        self._extend()

    def iteration(self, index: int) -> Iteration:
        """Where iteration `index` (from 0) stands."""
        while index >= self._firsts[-1] + self._segments[-1].length:
            self._extend()
        one = self._segments[bisect_right(self._firsts, index) - 1]
        place = index - one.first
        start = one.start + place * one.size
        is_last = one.ends_epoch and place == one.length - 1
        return Iteration(
            index,
            one.epoch,
            start,
            one.size,
            one.epoch * self.samples_per_epoch + start,
            is_last,
            one.batch_size,
            one.left_out_before,
            one.left_out if is_last else 0,
        )

    def num_reaching(self, samples: Fraction) -> int:
        """The number of iterations after which at least `samples` have gone past."""
        while self._befores[-1] < samples:
            self._extend()
        place = max(0, bisect_left(self._befores, samples) - 1)
        one = self._segments[place]
        return one.first + min(one.length, int(-(-(samples - self._befores[place]) // one.size)))

    def first_of_epoch(self, epoch: int) -> int:
        """The index of the first iteration of an epoch (from 0)."""
        start = epoch * self.samples_per_epoch
        while self._befores[-1] < start:
            self._extend()
        return self._firsts[bisect_left(self._befores, start)]

    def sizes_within(self, num_iterations: int) -> tuple[int, ...]:
        """The sizes of mini-batch that occur in so many iterations, in the order of their first."""
        self.iteration(num_iterations - 1)
        return tuple(dict.fromkeys(one.size for one in self._segments if one.first < num_iterations))

    def _extend(self) -> None:
        one = next(self._walk)
        self._segments.append(one)
        self._firsts.append(one.first)
        self._befores.append(one.epoch * self.samples_per_epoch + one.start)

    def _walked(self) -> Iterator[Segment]:
        """The segments one after the other, without end."""
        first = epoch = start = left_out_before = 0
        while True:
            batch_size, size, length = self._stretch(epoch, start)
            end = start + length * size
            left_out = self._left_out(epoch, end)
            ends_epoch = end + left_out == self.samples_per_epoch
            yield Segment(first, epoch, start, size, length, batch_size, ends_epoch, left_out_before, left_out)
            first, start, left_out_before = first + length, end, left_out_before + left_out
            if ends_epoch:
                epoch, start = epoch + 1, 0

    def _stretch(self, epoch: int, start: int) -> tuple[int, int, int]:
        """The size in force, the size of the mini-batches, and how many of them come before either changes."""
        gone, left = epoch * self.samples_per_epoch + start, self.samples_per_epoch - start
        batch_size = min(self._sizes.at(gone), self.samples_per_epoch)
        if left < batch_size:
            return batch_size, left, 1
        change = self._sizes.next_start(gone)
        length = left // batch_size
        return batch_size, batch_size, length if change is None else min(length, -(-(change - gone) // batch_size))

    def _left_out(self, epoch: int, end: int) -> int:
        """How many samples are left out where an epoch stands at `end`."""
        left = self.samples_per_epoch - end
        in_force = min(self._sizes.at(epoch * self.samples_per_epoch + end), self.samples_per_epoch)
        return left if self._drop_last and left < in_force else 0
