"""Mini-batches of at most so many tokens, against cutting by hand."""

from fractions import Fraction

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from mbtrain.plan.duration import Duration
from mbtrain.plan.run import RunPlan
from mbtrain.plan.token_mini_batches import TokenLimit


def plan_of(lengths: list[int], most: int, batch_size: int | str = "all", duration: str = "3ep") -> RunPlan:
    def lengths_of(epoch: int) -> list[int]:
        return np.roll(lengths, epoch).tolist()

    return RunPlan(
        num_samples=len(lengths),
        batch_size=batch_size,
        duration=Duration.parse(duration),
        tokens=TokenLimit(most, lengths_of),
    )


def by_hand(lengths: list[int], most: int, batch_size: int, num_epochs: int) -> list[tuple[int, int, int]]:
    """(epoch, start, size) of each mini-batch, one sample at a time."""
    found = []
    for epoch in range(num_epochs):
        rolled = np.roll(lengths, epoch).tolist()
        start = tokens = 0
        for place, length in enumerate(rolled):
            if place > start and (tokens + length > most or place - start == batch_size):
                found.append((epoch, start, place - start))
                start, tokens = place, 0
            tokens += length
        found.append((epoch, start, len(rolled) - start))
    return found


@given(st.lists(st.integers(1, 20), min_size=1, max_size=40), st.integers(20, 60), st.integers(1, 12))
def test_mini_batches_are_those_cut_by_hand(lengths: list[int], most: int, batch_size: int) -> None:
    plan = plan_of(lengths, most, batch_size)
    wanted = by_hand(lengths, most, min(batch_size, len(lengths)), 3)
    assert plan.num_iterations == len(wanted) and plan.num_epochs == 3
    iterations = [plan.iteration(index) for index in range(plan.num_iterations)]
    assert [(one.epoch, one.start, one.size) for one in iterations] == wanted
    assert set(plan.sizes) == {size for _, _, size in wanted}
    assert [one.is_last_of_epoch for one in iterations] == [one.start + one.size == len(lengths) for one in iterations]


@given(st.lists(st.integers(1, 20), min_size=1, max_size=40), st.integers(20, 60), st.integers(1, 200))
def test_a_length_in_samples_ends_with_the_first_iteration_at_or_after_it(
    lengths: list[int], most: int, samples: int
) -> None:
    plan = plan_of(lengths, most, duration=f"{samples}sp")
    last = plan.iteration(plan.num_iterations - 1)
    assert last.samples_before < samples <= last.samples_after


def test_epochs_begin_where_the_ones_before_end() -> None:
    plan = plan_of([3, 9, 4, 1, 8], 10)
    firsts = [plan.first_of_epoch(epoch) for epoch in range(4)]
    assert firsts == [
        0,
        *np.cumsum([sum(one[0] == epoch for one in by_hand([3, 9, 4, 1, 8], 10, 5, 3)) for epoch in range(3)]),
    ]
    assert plan.samples(Duration.parse("1ep")) == Fraction(5)


def test_largest_mini_batch_is_that_of_the_shortest_samples_and_the_plan_goes_on() -> None:
    plan = plan_of([1, 1, 1, 3, 3], most=3, duration="1ep")
    assert plan.largest_size == 3 and plan.num_iterations == 3
    assert plan.iteration(plan.num_iterations).epoch == 1
