"""The plan of a run: where iteration k stands, how many there are, and when a Duration has passed."""

from collections.abc import Sequence
from fractions import Fraction
from typing import NamedTuple

from mbtrain.plan.duration import Cadence, Duration, Points
from mbtrain.plan.refused import Refused


class Iteration(NamedTuple):
    """One update: `index` counts from 0, `start` is its first sample's place in the epoch's order."""

    index: int  # pyright: ignore[reportIncompatibleMethodOverride] (hides the tuple method that nobody needs here)
    epoch: int
    start: int
    size: int
    samples_before: int
    is_last_of_epoch: bool

    @property
    def samples_after(self) -> int:
        """samples_seen once it is done."""
        return self.samples_before + self.size


class RunPlan:
    """Every epoch of `num_samples` cut into mini-batches of `batch_size`, until `duration` is reached.

    A Duration is reached by the first iteration that ends at or after it. With `drop_last` the ragged tail of an epoch
    is left out, and an epoch (`1ep`) is what is left.

    >>> RunPlan(num_samples=100, batch_size=32, duration=Duration.parse("2ep")).num_iterations
    8
    """

    def __init__(self, *, num_samples: int, batch_size: int | str, duration: Duration, drop_last: bool = False) -> None:
        self.num_samples = num_samples
        self.batch_size = num_samples if batch_size == "all" else min(int(batch_size), num_samples)
        full, rest = divmod(num_samples, self.batch_size)
        if drop_last and int(num_samples if batch_size == "all" else batch_size) > num_samples:
            raise Refused(
                f"batch.size={batch_size} with batch.drop_last=true leaves no mini-batch of {num_samples} samples: "
                "lower batch.size or set batch.drop_last=false"
            )
        self.tail = 0 if drop_last else rest
        self.samples_per_epoch = full * self.batch_size + self.tail
        self.iterations_per_epoch = full + bool(self.tail)
        if duration.unit == "%":
            raise Refused(f"duration={duration}: the run's own length cannot be a part of itself, use ep, it or sp")
        self.duration = duration
        self.total = self._samples_of(duration)
        self.num_iterations = self._first_reaching(self.total)
        self.num_epochs = -(-self.num_iterations // self.iterations_per_epoch)

    @property
    def sizes(self) -> tuple[int, ...]:
        """The sizes of mini-batch that occur, the usual one first."""
        return (self.batch_size, self.tail) if self.tail else (self.batch_size,)

    def iteration(self, index: int) -> Iteration:
        """Where iteration `index` (from 0) stands."""
        epoch, place = divmod(index, self.iterations_per_epoch)
        start, is_last = place * self.batch_size, place == self.iterations_per_epoch - 1
        size = self.tail if is_last and self.tail else self.batch_size
        return Iteration(index, epoch, start, size, epoch * self.samples_per_epoch + start, is_last)

    def samples(self, duration: Duration) -> Fraction:
        """The number of samples seen when `duration` has passed."""
        return self.total * duration.amount / 100 if duration.unit == "%" else self._samples_of(duration)

    def cadence(self, every: Duration) -> Cadence:
        """When something that happens `every` Duration is due."""
        return Cadence(every, horizon=self)

    def points(self, at: Sequence[Duration]) -> Points:
        """When something that happens once at each of some Durations is due."""
        return Points(at, horizon=self)

    def _samples_of(self, duration: Duration) -> Fraction:
        if duration.unit == "ep":
            return duration.amount * self.samples_per_epoch
        if duration.unit == "it":
            return Fraction(self.iteration(int(duration.amount) - 1).samples_after)
        return duration.amount

    def _first_reaching(self, samples: Fraction) -> int:
        """The number of iterations after which at least `samples` have been seen."""
        epochs, rest = divmod(samples, self.samples_per_epoch)
        within = min(-(-rest // self.batch_size), self.iterations_per_epoch)
        return int(epochs) * self.iterations_per_epoch + int(within)
