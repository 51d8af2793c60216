"""The plan of a run."""

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mbtrain.plan.duration import Duration
from mbtrain.plan.refused import Refused
from mbtrain.plan.run import Iteration, RunPlan

samples = st.integers(1, 200)
batches = st.integers(1, 60) | st.just("all")


def plan(num_samples: int, batch_size: int | str, duration: str = "3ep", *, drop_last: bool = False) -> RunPlan:
    return RunPlan(
        num_samples=num_samples, batch_size=batch_size, duration=Duration.parse(duration), drop_last=drop_last
    )


def iterations(run: RunPlan) -> list[Iteration]:
    return [run.iteration(index) for index in range(run.num_iterations)]


@given(samples, batches)
def test_each_epoch_is_covered_exactly_once(num_samples: int, batch_size: int | str) -> None:
    run = plan(num_samples, batch_size)
    for epoch in range(3):
        seen = [range(one.start, one.start + one.size) for one in iterations(run) if one.epoch == epoch]
        assert [index for part in seen for index in part] == list(range(num_samples))


@given(st.integers(2, 200), st.data())
def test_drop_last_leaves_the_tail_out_and_nothing_else(num_samples: int, data: st.DataObject) -> None:
    batch_size = data.draw(st.integers(1, num_samples))
    run = plan(num_samples, batch_size, drop_last=True)
    assert {one.size for one in iterations(run)} == {batch_size}
    assert run.iterations_per_epoch == num_samples // batch_size
    assert run.samples_per_epoch == num_samples // batch_size * batch_size


@given(samples, st.integers(1, 60), st.booleans())
def test_samples_seen_go_on_where_the_iteration_before_ended(
    num_samples: int, batch_size: int, drop_last: bool
) -> None:
    seen = 0
    for one in iterations(plan(num_samples, min(batch_size, num_samples), drop_last=drop_last)):
        assert one.samples_before == seen
        seen = one.samples_after


@given(samples, batches)
def test_the_last_iteration_of_an_epoch_is_the_one_before_the_next(num_samples: int, batch_size: int | str) -> None:
    run = plan(num_samples, batch_size)
    for one in iterations(run):
        assert one.is_last_of_epoch == (run.iteration(one.index + 1).epoch == one.epoch + 1)


@given(samples, batches, st.integers(1, 700))
def test_a_length_in_samples_is_reached_by_the_first_iteration_that_ends_at_or_after(
    num_samples: int, batch_size: int | str, length: int
) -> None:
    run = plan(num_samples, batch_size, f"{length}sp")
    last = run.iteration(run.num_iterations - 1)
    assert last.samples_before < length <= last.samples_after


@given(samples, batches, st.integers(1, 40))
def test_a_length_in_epochs_is_reached_likewise(num_samples: int, batch_size: int | str, tenths: int) -> None:
    run = plan(num_samples, batch_size, f"{tenths / 10}ep")
    last = run.iteration(run.num_iterations - 1)
    assert last.samples_before < Fraction(tenths, 10) * num_samples <= last.samples_after


@given(samples, batches, st.integers(1, 300))
def test_a_length_in_iterations_is_that_many(num_samples: int, batch_size: int | str, count: int) -> None:
    assert plan(num_samples, batch_size, f"{count}it").num_iterations == count


@given(samples, batches, st.integers(1, 300))
def test_num_epochs_counts_the_one_in_progress(num_samples: int, batch_size: int | str, count: int) -> None:
    run = plan(num_samples, batch_size, f"{count}it")
    assert run.num_epochs == run.iteration(count - 1).epoch + 1


def test_a_percent_is_of_the_whole_run() -> None:
    assert plan(100, 32, "4ep").samples(Duration.parse("25%")) == 100


@pytest.mark.parametrize(
    ("num_samples", "batch_size", "sizes"),
    [(100, 32, (32, 4)), (96, 32, (32,)), (100, 1, (1,)), (100, "all", (100,)), (10, 32, (10,)), (1, 1, (1,))],
)
def test_sizes_that_occur(num_samples: int, batch_size: int | str, sizes: tuple[int, ...]) -> None:
    run = plan(num_samples, batch_size)
    assert run.sizes == sizes
    assert {one.size for one in iterations(run)} == set(sizes)


def test_drop_last_with_a_batch_larger_than_the_data_is_refused() -> None:
    with pytest.raises(Refused, match=r"batch.size=101 with batch.drop_last=true leaves no mini-batch of 100 samples"):
        plan(100, 101, drop_last=True)


def test_drop_last_with_the_full_batch_keeps_it() -> None:
    assert plan(100, "all", drop_last=True).sizes == (100,)


def test_a_run_that_is_a_part_of_itself_is_refused() -> None:
    with pytest.raises(Refused, match="duration=50%: the run's own length cannot be a part of itself"):
        plan(100, 32, "50%")


def test_what_the_tail_of_an_epoch_loses_is_counted() -> None:
    assert (plan(100, 32, drop_last=True).num_left_out, plan(100, 32).num_left_out) == (4, 0)


def test_results_move_no_size_where_the_schedule_reads_none() -> None:
    run = plan(100, 32)
    run.see({"val/loss": 1.0}, done=1)
    assert run.is_constant and run.batch_size == 32 and run.num_changes == 0 and run.state() == {}


def test_learning_rate_is_its_schedule_s_where_no_batch_grows_in_its_stead() -> None:
    factor = plan(100, 32).lr_factor(lambda horizon: lambda samples: Fraction(samples) / horizon.total)
    assert factor(75) == Fraction(1, 4)
