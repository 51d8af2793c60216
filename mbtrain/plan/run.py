"""The plan of a run: where iteration k stands, how many there are, and when a Duration has passed."""

from collections.abc import Callable, Mapping, Sequence
from fractions import Fraction
from functools import lru_cache
from typing import Any

from mbtrain.plan.batch_schedule import BatchSchedule, Constant, Passes, ReadingSchedule
from mbtrain.plan.duration import Cadence, Duration, Horizon, Points
from mbtrain.plan.iteration import Iteration as Iteration
from mbtrain.plan.mini_batches import EqualMiniBatches, MiniBatches, ScheduledMiniBatches
from mbtrain.plan.refused import Refused
from mbtrain.plan.sizes import Sizes
from mbtrain.plan.token_mini_batches import TokenLimit, TokenMiniBatches

Factor = Callable[[float], float]


class RunPlan:
    """Every epoch of `num_samples` cut into mini-batches, until `duration` is reached.

    Their size is `batch_size`, or what `schedule`, or under `tokens` the lengths, make of it. A Duration is reached by
    the first iteration that ends at or after it. With `drop_last` the ragged tail of an epoch is left out, and an epoch
    (`1ep`) is what is left; under a schedule, where epochs would not be of one length then, Durations count what is
    left out as gone past.

    >>> RunPlan(num_samples=100, batch_size=32, duration=Duration.parse("2ep")).num_iterations
    8
    """

    def __init__(
        self,
        *,
        num_samples: int,
        batch_size: int | str,
        duration: Duration,
        drop_last: bool = False,
        schedule: BatchSchedule | None = None,
        tokens: TokenLimit | None = None,
    ) -> None:
        if duration.unit == "%":
            raise Refused(f"duration={duration}: the run's own length cannot be a part of itself, use ep, it or sp")
        self.num_samples, self.duration, self.drop_last = num_samples, duration, drop_last
        if schedule is None:
            schedule = Constant(size=num_samples if batch_size == "all" else int(batch_size))
        self.schedule, self.tokens = schedule, tokens
        self._passes = Passes(num_samples, duration)
        # How often a reading schedule has changed the size: who has looked ahead looks again.
        self.num_changes = 0
        self._follow(Sizes(schedule(self._passes)))

    def _follow(self, sizes: Sizes) -> None:
        self.batch_sizes = sizes
        self._refuse_none_left(sizes.largest)
        self._mini_batches = self._cut(sizes)
        # Asked several times about the one in hand.
        self.iteration: Callable[[int], Iteration] = lru_cache(maxsize=4)(self._mini_batches.iteration)
        self.samples_per_epoch = self._mini_batches.samples_per_epoch
        self.total = self._samples_of(self.duration)
        self.num_iterations = self._mini_batches.num_reaching(self.total)
        self.num_epochs = self.iteration(self.num_iterations - 1).epoch + 1

    def _cut(self, sizes: Sizes) -> MiniBatches:
        if self.tokens is not None:
            return TokenMiniBatches(self.tokens, self.num_samples, min(sizes.largest, self.num_samples))
        if len(sizes.steps) == 1 and self.is_counted:
            return EqualMiniBatches(self.num_samples, min(sizes.largest, self.num_samples), drop_last=self.drop_last)
        return ScheduledMiniBatches(self.num_samples, sizes, drop_last=self.drop_last)

    @property
    def is_counted(self) -> bool:
        """Whether the iterations to come are known: a schedule that reads results makes them as it goes."""
        return not isinstance(self.schedule, ReadingSchedule)

    @property
    def is_constant(self) -> bool:
        """Whether the batch size never moves."""
        return isinstance(self._mini_batches, EqualMiniBatches)

    @property
    def batch_size(self) -> int:
        """The size in force at the start."""
        return self.iteration(0).batch_size

    @property
    def largest_size(self) -> int:
        """No mini-batch is larger."""
        schedule = self.schedule
        if self.tokens is not None:
            return max(self.sizes)
        largest = schedule.most(self._passes) if isinstance(schedule, ReadingSchedule) else self.batch_sizes.largest
        return min(largest, self.num_samples)

    @property
    def sizes(self) -> tuple[int, ...]:
        """The sizes of mini-batch in the run as it is planned, the first one's first."""
        return self._mini_batches.sizes_within(self.num_iterations)

    @property
    def num_left_out(self) -> int:
        """How many samples the first epoch leaves out."""
        last = self.iteration(self.first_of_epoch(1) - 1)
        return self.num_samples - last.start - last.size

    def first_of_epoch(self, epoch: int) -> int:
        """The index of the first iteration of an epoch (from 0)."""
        return self._mini_batches.first_of_epoch(epoch)

    @property
    def iterations_per_epoch(self) -> int:
        """The number of iterations of the first epoch: of every epoch, where the size is constant."""
        return self.iterations_in(0)

    def iterations_in(self, epoch: int) -> int:
        """The number of iterations of a whole epoch (from 0)."""
        return self.first_of_epoch(epoch + 1) - self.first_of_epoch(epoch)

    def samples(self, duration: Duration) -> Fraction:
        """The number of samples gone past when `duration` has passed."""
        return self.total * duration.amount / 100 if duration.unit == "%" else self._samples_of(duration)

    def cadence(self, every: Duration) -> Cadence:
        """When something that happens `every` Duration is due."""
        return Cadence(every, horizon=self)

    def points(self, at: Sequence[Duration]) -> Points:
        """When something that happens once at each of some Durations is due."""
        return Points(at, horizon=self)

    def lr_factor(self, lr_schedule: Callable[[Horizon], Factor]) -> Factor:
        """The learning rate's factor by samples: the schedule's, times what the batch grows by in its stead."""
        falls = lr_schedule(self)
        if not hasattr(self.schedule, "growth"):
            return falls
        growth = self.schedule.growth(self._passes)  # pyright: ignore[reportAttributeAccessIssue]
        return lambda samples: falls(samples) * growth(samples)

    # A schedule that reads results ------------------------------------------------------------------------------------

    def see(self, values: Mapping[str, float], *, done: int) -> None:
        """Show results to the schedule after iteration `done` (from 1); a new size holds from the next one on."""
        if not isinstance(self.schedule, ReadingSchedule):
            return
        last = self.iteration(done - 1)
        size = self.schedule.see(values, samples_seen=last.samples_seen)
        if size is not None:
            self.num_changes += 1
            self._follow(Sizes([*self.batch_sizes.steps, (last.samples_after, size)]))

    def state(self) -> dict[str, Any]:
        """What a checkpoint needs: the sizes so far, and what the schedule knows."""
        if not isinstance(self.schedule, ReadingSchedule):
            return {}
        return {"steps": [list(one) for one in self.batch_sizes.steps], "schedule": self.schedule.state()}

    def load(self, state: Mapping[str, Any]) -> None:
        """Go on from `state`."""
        if isinstance(self.schedule, ReadingSchedule):
            self.schedule.load(state["schedule"])
            self._follow(Sizes([(start, size) for start, size in state["steps"]]))

    def _samples_of(self, duration: Duration) -> Fraction:
        if duration.unit == "ep":
            return duration.amount * self.samples_per_epoch
        if duration.unit == "sp":
            return duration.amount
        if not self.is_counted:
            raise Refused(
                f"{duration}: how many samples iterations hold is not known ahead where the batch size follows "
                "results: give a length in ep or sp"
            )
        return Fraction(self.iteration(int(duration.amount) - 1).samples_after)

    def _refuse_none_left(self, largest: int) -> None:
        if self.drop_last and largest > self.num_samples:
            raise Refused(
                f"batch.size={largest} with batch.drop_last=true leaves no mini-batch of {self.num_samples} samples: "
                "lower batch.size or set batch.drop_last=false"
            )
