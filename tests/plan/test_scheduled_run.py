"""The plan of a run whose batch size moves, against a plain walk from one mini-batch to the next."""

from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mbtrain.plan.batch_schedule import Passes, Steps
from mbtrain.plan.duration import Duration
from mbtrain.plan.grow import Grow
from mbtrain.plan.iteration import Iteration
from mbtrain.plan.plateau import Plateau
from mbtrain.plan.refused import Refused
from mbtrain.plan.run import RunPlan
from mbtrain.plan.schedule import Step

NUM_SAMPLES = st.integers(1, 60)


class Given:
    """A schedule of given steps."""

    def __init__(self, steps: Sequence[tuple[int, int]]) -> None:
        self._steps = steps

    def __call__(self, horizon: Passes) -> Steps:
        return self._steps


@st.composite
def steps(draw: st.DrawFn, largest: int = 70) -> list[tuple[int, int]]:
    starts = sorted(draw(st.sets(st.integers(1, 250), max_size=6)))
    return [(start, draw(st.integers(1, largest))) for start in [0, *starts]]


def plan(num_samples: int, given_steps: Any, duration: str = "4ep", *, drop_last: bool = False) -> RunPlan:
    return RunPlan(
        num_samples=num_samples,
        batch_size=1,
        duration=Duration.parse(duration),
        drop_last=drop_last,
        schedule=Given(given_steps),
    )


def iterations(run: RunPlan) -> list[Iteration]:
    return [run.iteration(index) for index in range(run.num_iterations)]


def walked(num_samples: int, given_steps: Any, num_epochs: int, *, drop_last: bool) -> list[tuple[int, int, int, int]]:
    """(epoch, start, size, size in force), one after the other, as the words say it."""
    found = []
    for epoch in range(num_epochs):
        start = 0
        while start < num_samples:
            gone = epoch * num_samples + start
            in_force = min([size for begin, size in given_steps if begin <= gone][-1], num_samples)
            size = min(in_force, num_samples - start)
            if drop_last and size < in_force:
                break
            found.append((epoch, start, size, in_force))
            start += size
    return found


@given(NUM_SAMPLES, steps())
def test_plan_is_the_plain_walk(num_samples: int, given_steps: Any) -> None:
    found = [(one.epoch, one.start, one.size, one.batch_size) for one in iterations(plan(num_samples, given_steps))]
    assert found == walked(num_samples, given_steps, 4, drop_last=False)


@given(NUM_SAMPLES, st.data())
def test_plan_that_drops_tails_is_the_plain_walk(num_samples: int, data: st.DataObject) -> None:
    given_steps = data.draw(steps(largest=num_samples))
    run = plan(num_samples, given_steps, drop_last=True)
    found = [(one.epoch, one.start, one.size, one.batch_size) for one in iterations(run)]
    assert found == walked(num_samples, given_steps, 4, drop_last=True)


@given(NUM_SAMPLES, st.data())
def test_samples_seen_are_those_of_the_mini_batches(num_samples: int, data: st.DataObject) -> None:
    drop_last = data.draw(st.booleans())
    seen = 0
    for one in iterations(plan(num_samples, data.draw(steps(largest=num_samples)), drop_last=drop_last)):
        seen += one.size
        assert one.samples_seen == seen


@given(NUM_SAMPLES, st.data())
def test_what_has_gone_past_goes_on_without_a_gap(num_samples: int, data: st.DataObject) -> None:
    gone = 0
    run = plan(num_samples, data.draw(steps(largest=num_samples)), drop_last=data.draw(st.booleans()))
    for one in iterations(run):
        assert one.samples_before == gone
        gone = one.samples_after
        assert one.is_last_of_epoch == (gone % run.samples_per_epoch == 0)


@given(NUM_SAMPLES, steps(), st.integers(1, 200))
def test_a_length_is_reached_by_the_first_iteration_that_ends_at_or_after(
    num_samples: int, given_steps: Any, length: int
) -> None:
    run = plan(num_samples, given_steps, f"{length}sp")
    last = run.iteration(run.num_iterations - 1)
    assert last.samples_before < length <= last.samples_after


@given(NUM_SAMPLES, steps(), st.integers(1, 100))
def test_a_length_in_iterations_is_that_many(num_samples: int, given_steps: Any, count: int) -> None:
    assert plan(num_samples, given_steps, f"{count}it").num_iterations == count


@given(NUM_SAMPLES, steps())
def test_each_epoch_begins_where_the_walk_says(num_samples: int, given_steps: Any) -> None:
    run = plan(num_samples, given_steps)
    starts = [index for index, one in enumerate(walked(num_samples, given_steps, 4, drop_last=False)) if one[1] == 0]
    assert [run.first_of_epoch(epoch) for epoch in range(4)] == starts


@given(NUM_SAMPLES, steps())
def test_asked_out_of_order_it_says_the_same(num_samples: int, given_steps: Any) -> None:
    run = plan(num_samples, given_steps, "1sp")
    backwards = [run.iteration(index) for index in reversed(range(30))]
    assert backwards[::-1] == [plan(num_samples, given_steps).iteration(index) for index in range(30)]


def test_a_ramp_in_the_middle_of_an_epoch_by_hand() -> None:
    run = plan(100, [(0, 10), (35, 20), (130, 50)], "2ep")
    assert [one.size for one in iterations(run)] == [10, 10, 10, 10, 20, 20, 20, 20, 20, 50, 10]
    assert run.num_iterations == 11 and run.iterations_in(0) == 7 and run.iterations_in(1) == 4


def test_a_schedule_of_one_size_is_the_plan_without_one() -> None:
    alone = RunPlan(num_samples=100, batch_size=32, duration=Duration.parse("3ep"))
    assert iterations(plan(100, [(0, 32)], "3ep")) == iterations(alone)


def test_a_million_iterations_are_a_short_table() -> None:
    run = plan(1_000_000, [(0, 1), (5_000_000, 4)], "10ep")
    assert run.num_iterations == 5_000_000 + 1_250_000
    assert run.iteration(6_000_000).samples_before == 5_000_000 + 4 * 1_000_000
    assert len(run._mini_batches._segments) <= 12  # pyright: ignore


def test_drop_last_with_a_size_above_the_data_is_refused() -> None:
    with pytest.raises(Refused, match="batch.size=101 with batch.drop_last=true leaves no mini-batch of 100"):
        plan(100, [(0, 10), (50, 101)], drop_last=True)


def test_the_learning_rate_stays_while_the_batch_grows_in_its_stead() -> None:
    step = Step(at=["50%", "75%"], factor=0.2)
    run = RunPlan(
        num_samples=5000,
        batch_size=10,
        duration=Duration.parse("4ep"),
        schedule=Grow(size=10, lr_schedule=step),
    )
    factor = run.lr_factor(step)
    for one in iterations(run):
        assert factor(one.samples_before + one.size / 2) == pytest.approx(1, rel=1e-15)


# A schedule that reads results --------------------------------------------------------------------------------------


def plateau(duration: str = "3ep", **options: Any) -> RunPlan:
    schedule = Plateau(size=10, patience=1, most=40, **options)
    return RunPlan(num_samples=100, batch_size=10, duration=Duration.parse(duration), schedule=schedule)


def loss(value: float) -> Mapping[str, float]:
    return {"val/loss": value}


def test_results_move_the_size_from_the_next_iteration_on() -> None:
    run = plateau("2ep")
    run.see(loss(1), done=3)
    run.see(loss(1), done=4)
    assert [one.size for one in iterations(run)][:9] == [10, 10, 10, 10, 20, 20, 20, 20, 20]
    assert run.num_changes == 1 and run.num_iterations == 4 + 3 + 5


def test_state_brings_the_sizes_so_far_back() -> None:
    run = plateau()
    for done in (3, 4, 9):
        run.see(loss(1), done=done)
    other = plateau()
    other.load(run.state())
    assert iterations(other) == iterations(run)
    for one in (run, other):
        one.see(loss(2), done=12)
    assert iterations(other) == iterations(run)


def test_largest_size_is_known_though_the_sizes_are_not() -> None:
    assert plateau().largest_size == 40 and not plateau().is_counted


@pytest.mark.parametrize("length", ["20it", "1it"])
def test_a_length_in_iterations_is_refused_where_results_decide(length: str) -> None:
    with pytest.raises(Refused, match=f"{length}: how many samples iterations hold is not known ahead"):
        plateau(length)
    with pytest.raises(Refused, match="how many samples"):
        plateau().samples(Duration.parse(length))


def test_lengths_in_epochs_and_samples_are_known_where_results_decide() -> None:
    assert plateau().samples(Duration.parse("50%")) == Fraction(150)


def test_an_epoch_begins_where_its_first_mini_batch_does() -> None:
    run = plan(50, [(0, 20), (50, 25)])
    assert [run.first_of_epoch(epoch) for epoch in range(7)] == [0, 3, 5, 7, 9, 11, 13]
    assert run.sizes == (20, 10, 25)
