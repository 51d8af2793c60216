"""Batch-size schedules (`batch_schedule=`): the size of a mini-batch by the samples gone past.

A schedule is called once with the run's horizon and gives steps: (samples gone past, size from there on), the first at
0. A mini-batch has the size in force where it begins, so a size changes between two updates, in the middle of an epoch
too, and each sample still comes once in an epoch. A schedule that reads results (`ReadingSchedule`) gives the size it
starts with, and is then shown results.
"""

import math
from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import Any, Protocol, runtime_checkable

from mbtrain.plan.duration import Duration
from mbtrain.plan.refused import Refused

Steps = Sequence[tuple["Fraction | float", int]]


class Passes:
    """The horizon of a schedule: samples gone past, as far as they are known before the sizes are."""

    def __init__(self, num_samples: int, duration: Duration) -> None:
        self.num_samples, self._duration = num_samples, duration

    @property
    def total(self) -> Fraction:
        """The run's length in samples."""
        if self._duration.unit == "it":
            raise Refused(
                f"duration={self._duration}: how many samples iterations hold is decided by the batch schedule, which "
                "goes by the run's length: give the duration in ep or sp"
            )
        return self.samples(self._duration)

    def samples(self, duration: Duration) -> Fraction:
        """The number of samples gone past when `duration` has passed."""
        if duration.unit == "%":
            return self.total * duration.amount / 100
        if duration.unit == "it":
            raise Refused(f"{duration}: iterations depend on the batch size, which is what is decided: use ep, sp or %")
        return duration.amount * (self.num_samples if duration.unit == "ep" else 1)


class BatchSchedule(Protocol):
    """What a plan asks of a schedule.

    One that grows in the learning rate's stead also has `growth(horizon)`, the factor of both by samples (see Grow).
    """

    def __call__(self, horizon: Passes) -> Steps:
        """The sizes, as far as they are known ahead."""
        ...


@runtime_checkable
class ReadingSchedule(Protocol):
    """A schedule whose sizes follow what is measured; its state is in the checkpoint."""

    reads: str | tuple[str, ...]  # the names of what it reads: val/loss, or a probe's columns

    def __call__(self, horizon: Passes) -> Steps:
        """The size at the start."""
        ...

    def most(self, horizon: Passes) -> int:
        """No size will be larger."""
        ...

    def see(self, values: Mapping[str, float], *, samples_seen: int) -> int | None:
        """Look at results between two updates, after so many samples; the new size, None where it stays."""
        ...

    def state(self) -> dict[str, Any]:
        """What a checkpoint needs: plain values."""
        ...

    def load(self, state: Mapping[str, Any]) -> None:
        """Go on from `state`."""
        ...


def names_read(schedule: object) -> tuple[str, ...]:
    """The names of what a schedule reads, none for one that reads nothing.

    >>> names_read(Constant(size=32))
    ()
    """
    reads = getattr(schedule, "reads", ())
    return (reads,) if isinstance(reads, str) else reads


class Constant:
    """The same size throughout."""

    def __init__(self, *, size: int) -> None:
        self._size = size

    def __call__(self, horizon: Passes) -> Steps:
        """The sizes by samples gone past."""
        return [(0, self._size)]


class Ramp:
    """From `start` to `size` over a Duration: doubled at equal distances, or in a straight line.

    Doubling: each power of two times `start` below `size` holds for the same number of samples, and `size` from the end
    of `over` on. Straight: the nearest whole number on the line.

    >>> [size for _, size in Ramp(start=8, size=30, over="2ep")(Passes(1000, Duration.parse("9ep")))]
    [8, 16, 30]
    """

    def __init__(self, *, start: int, size: int, over: str = "25%", shape: str = "doubling") -> None:
        self._start, self._size, self._over = size_of("start", start), size, length_of("over", over)
        if start > size:
            raise Refused(f"batch_schedule.start={start}: is above batch.size={size}, to which it rises: give less")
        self.needs_total = self._over.unit == "%"
        if shape not in ("doubling", "straight"):
            raise Refused(f"batch_schedule.shape={shape}: must be one of doubling, straight")
        self._shape = shape

    def __call__(self, horizon: Passes) -> Steps:
        """The sizes by samples gone past."""
        over = samples_of("over", self._over, horizon)
        if self._shape == "straight":
            return straight(self._start, self._size, over)
        num_steps = math.ceil(math.log2(self._size / self._start))
        steps = [(over * step / num_steps, self._start * 2**step) for step in range(num_steps)]
        return [*steps, (over if num_steps else 0, self._size)]


class Linear:
    """A straight line from `start` to `end` over the whole run; the nearest whole number on it."""

    needs_total = True

    def __init__(self, *, start: int, end: int) -> None:
        self._start, self._end = size_of("start", start), size_of("end", end)

    def __call__(self, horizon: Passes) -> Steps:
        """The sizes by samples gone past."""
        return straight(self._start, self._end, horizon.total)


class Stepwise:
    """`size` at first, then the sizes of `at`, each from its Duration on: `"0ep:32 5ep:128 50%:512"`."""

    def __init__(self, *, size: int, at: str) -> None:
        self._first, self._at = size, [_step(one) for one in str(at).split()]
        self.needs_total = any(length is not None and length.unit == "%" for length, _ in self._at)
        if not self._at:
            raise Refused(f"batch_schedule.at={at}: must be steps such as '5ep:128 50%:512'")

    def __call__(self, horizon: Passes) -> Steps:
        """The sizes by samples gone past; Refused where the steps are not in order."""
        steps: list[tuple[Fraction, int]] = []
        for length, size in self._at:
            start = Fraction(0) if length is None else samples_of("at", length, horizon)
            if steps and start <= steps[-1][0]:
                raise Refused(f"batch_schedule.at={length}:{size}: does not come after the step before it")
            steps.append((start, size))
        return [(0, self._first), *steps]


def straight(start: int, end: int, over: Fraction) -> Steps:
    """The nearest whole numbers on the line from `start` at 0 to `end` at `over` samples, and `end` from then on.

    >>> [(float(start), size) for start, size in straight(2, 4, Fraction(100))]
    [(0.0, 2), (25.0, 3), (75.0, 4)]
    """
    distance, sign = abs(end - start), 1 if end > start else -1
    changes = [(over * (2 * step - 1) / (2 * distance), start + sign * step) for step in range(1, distance + 1)]
    return [(0, start), *changes]


def size_of(option: str, value: object) -> int:
    """`value` as a batch size; Refused unless it is a whole number of at least 1."""
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise Refused(f"batch_schedule.{option}={value}: must be a whole number of at least 1")
    return value


def length_of(option: str, text: object) -> Duration:
    """`text` as a Duration; Refused for iterations, of which the schedule itself decides how many there are."""
    try:
        length = Duration.parse(text)
    except Refused as error:
        raise Refused(f"batch_schedule.{option}={error}") from None
    if length.unit == "it":
        raise Refused(f"batch_schedule.{option}={text}: iterations depend on the batch size itself: use ep, sp or %")
    return length


def samples_of(option: str, length: Duration, horizon: Passes) -> Fraction:
    """The samples gone past after `length`."""
    try:
        return horizon.samples(length)
    except Refused as error:
        raise Refused(f"batch_schedule.{option}={length}: is a part of the run's length; {error}") from None


def _step(text: str) -> tuple[Duration | None, int]:
    """`5ep:128` as its Duration (None for the start) and size."""
    length, _, size = text.partition(":")
    if not size.isdecimal():
        raise Refused(f"batch_schedule.at={text}: must be a length and a size such as 5ep:128")
    is_start = length in ("0ep", "0sp", "0%")
    return None if is_start else length_of("at", length), size_of("at", int(size))
