"""Batch-size schedules: the sizes that each gives, and what it refuses."""

from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mbtrain.plan.batch_schedule import Constant, Linear, Passes, Ramp, Stepwise
from mbtrain.plan.duration import Duration
from mbtrain.plan.grow import Grow
from mbtrain.plan.plateau import Plateau
from mbtrain.plan.refused import Refused
from mbtrain.plan.schedule import Cosine, Step
from mbtrain.plan.sizes import Sizes

TEN = Passes(1000, Duration.parse("10ep"))


def sizes(schedule: Any, horizon: Passes = TEN) -> list[tuple[int, int]]:
    return list(Sizes(schedule(horizon)).steps)


def test_constant_is_one_size() -> None:
    assert sizes(Constant(size=32)) == [(0, 32)]


def test_doubling_ramp_holds_each_size_for_as_many_samples() -> None:
    assert sizes(Ramp(start=8, size=64, over="3ep")) == [(0, 8), (1000, 16), (2000, 32), (3000, 64)]


def test_doubling_ramp_ends_at_a_size_that_is_no_power() -> None:
    assert sizes(Ramp(start=8, size=50, over="30%")) == [(0, 8), (1000, 16), (2000, 32), (3000, 50)]


@given(st.integers(1, 60), st.integers(0, 60), st.integers(1, 5000))
def test_straight_ramp_is_the_nearest_whole_number_on_the_line(start: int, rise: int, over: int) -> None:
    found = Sizes(Ramp(start=start, size=start + rise, over=f"{over}sp", shape="straight")(TEN))
    for samples in range(0, over, max(1, over // 50)):
        assert abs(found.at(samples) - (start + Fraction(rise * samples, over))) <= Fraction(1, 2)
    assert found.at(over) == start + rise


@given(st.integers(1, 80), st.integers(1, 80))
def test_linear_is_the_nearest_whole_number_on_the_line_up_or_down(start: int, end: int) -> None:
    found = Sizes(Linear(start=start, end=end)(TEN))
    for samples in range(0, 10_000, 37):
        assert abs(found.at(samples) - (start + Fraction((end - start) * samples, 10_000))) <= Fraction(1, 2)


def test_ramp_from_its_own_size_is_constant() -> None:
    assert sizes(Ramp(start=32, size=32)) == sizes(Ramp(start=32, size=32, shape="straight")) == [(0, 32)]


def test_stepwise_begins_with_batch_size() -> None:
    assert sizes(Stepwise(size=32, at="5ep:128 80%:512")) == [(0, 32), (5000, 128), (8000, 512)]


def test_stepwise_may_say_the_first_size_itself() -> None:
    assert sizes(Stepwise(size=1, at="0ep:32 5ep:128")) == [(0, 32), (5000, 128)]


def test_grow_divides_the_batch_where_the_rate_would_be_multiplied() -> None:
    grow = Grow(size=32, lr_schedule=Step(at=["50%", "75%"], factor=0.5), most=1000)
    assert sizes(grow) == [(0, 32), (5000, 64), (7500, 128)]


def test_grow_stops_at_a_tenth_of_the_data() -> None:
    assert sizes(Grow(size=32, lr_schedule=Step(at=["50%", "75%"], factor=0.5))) == [(0, 32), (5000, 64), (7500, 100)]


@pytest.mark.parametrize("most", [None, 64, 1000])
@pytest.mark.parametrize("factor", [0.1, 0.2, 0.3, 0.5])
def test_lr_over_size_under_grow_is_the_configured_schedules(most: int | None, factor: float) -> None:
    step = Step(at=["7ep", "20%", "50%", "50.05%"], factor=factor)
    grow, falls = Grow(size=30, lr_schedule=step, most=most), step(TEN)
    found, growth = Sizes(grow(TEN)), grow.growth(TEN)
    for samples in range(0, 10_000, 5):
        lr = falls(samples) * growth(samples)
        assert lr / found.at(samples) == pytest.approx(falls(samples) / 30, rel=1e-12)


def test_grow_below_its_limit_leaves_the_rate_alone() -> None:
    step = Step(at=["50%", "75%"], factor=0.2)
    growth, falls = Grow(size=4, lr_schedule=step).growth(TEN), step(TEN)
    assert all(falls(s) * growth(s) == pytest.approx(1, rel=1e-15) for s in range(0, 10_000, 7))


def seen(schedule: Plateau, *losses: float) -> list[int | None]:
    schedule(TEN)
    return [schedule.see({"val/loss": loss}, samples_seen=0) for loss in losses]


def test_plateau_grows_after_so_many_validations_without_a_better_one() -> None:
    assert seen(Plateau(size=8, patience=2), 3, 2, 2, 2.5, 2.1, 1, 1, 1) == [*[None] * 3, 16, *[None] * 3, 32]


def test_plateau_stops_at_its_limit() -> None:
    assert seen(Plateau(size=40, patience=1, most=90), 1, 1, 1, 1) == [None, 80, 90, None]


def test_plateau_takes_nan_for_no_better() -> None:
    assert seen(Plateau(size=8, patience=1), float("nan"), 2, float("nan")) == [16, None, 32]


def test_plateau_reads_a_score_whose_more_is_better() -> None:
    schedule = Plateau(size=8, patience=1, reads="val/accuracy")
    schedule(TEN)
    assert [schedule.see({"val/accuracy": one}, samples_seen=0) for one in (0.5, 0.6, 0.55)] == [None, None, 16]


def test_plateau_goes_on_from_its_state() -> None:
    whole, first, second = (Plateau(size=8, patience=2) for _ in range(3))
    losses = [3, 3, 2.5, 3, 3, 3, 3, 2]
    expected = seen(whole, *losses)
    got = seen(first, *losses[:4])
    second(TEN)
    second.load(first.state())
    assert got + [second.see({"val/loss": one}, samples_seen=0) for one in losses[4:]] == expected


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Ramp(start=64, size=32), "batch_schedule.start=64: is above batch.size=32"),
        (lambda: Ramp(start=0, size=32), "batch_schedule.start=0: must be a whole number"),
        (lambda: Ramp(start=1, size=32, over="9it"), "batch_schedule.over=9it: iterations depend on the batch size"),
        (
            lambda: Ramp(start=1, size=32, shape="round"),
            "batch_schedule.shape=round: must be one of doubling, straight",
        ),
        (lambda: Linear(start=1, end=True), "batch_schedule.end=True: must be a whole number"),
        (lambda: Stepwise(size=1, at=""), "batch_schedule.at=: must be steps"),
        (lambda: Stepwise(size=1, at="5ep128"), "batch_schedule.at=5ep128: must be a length and a size"),
        (lambda: Stepwise(size=1, at="5it:128"), "batch_schedule.at=5it: iterations depend"),
        (lambda: Stepwise(size=1, at="5ep:0"), "batch_schedule.at=0: must be a whole number"),
        (lambda: Stepwise(size=1, at="5ep:8 50%:9")(TEN), "batch_schedule.at=50%:9: does not come after"),
        (lambda: Grow(size=1, lr_schedule=Cosine()), "batch_schedule=grow: grows where lr_schedule=step"),
        (lambda: Grow(size=1, lr_schedule=Step(at=["1ep"], factor=0)), "lr_schedule.factor=0: batch_schedule=grow"),
        (lambda: Plateau(size=1, factor=1), "batch_schedule.factor=1: must be a number above 1"),
        (lambda: Plateau(size=1, patience=0), "batch_schedule.patience=0: must be a whole number"),
        (lambda: seen(Plateau(size=1, reads="val/f1"), 1), "batch_schedule.reads=val/f1: not measured"),
        (lambda: Linear(start=1, end=2)(Passes(9, Duration.parse("9it"))), "duration=9it: how many samples"),
        (lambda: Sizes([(5, 8)]), "must give a size of at least 1 from 0"),
        (lambda: Sizes([(0, 8), (9, 9), (5, 8)]), "the step at 5 samples comes after one at 9"),
    ],
)
def test_what_makes_no_sense_is_refused(make: Any, message: str) -> None:
    with pytest.raises(Refused, match=message):
        make()


@pytest.mark.parametrize("duration", ["200it"])
def test_a_share_of_a_run_counted_in_iterations_is_refused(duration: str) -> None:
    horizon = Passes(1000, Duration.parse(duration))
    for schedule in (Ramp(start=8, size=64, over="30%"), Stepwise(size=32, at="50%:64")):
        with pytest.raises(
            Refused, match="is a part of the run's length; duration=200it: .* give the duration in ep or sp"
        ):
            schedule(horizon)
    with pytest.raises(Refused, match="lr_schedule.at, where batch_schedule=grow grows: duration=200it"):
        Grow(size=32, lr_schedule=Step(at=["50%"], factor=0.2))(horizon)


@pytest.mark.parametrize(
    ("over", "reason"), [("soon", "not a length such as"), ("20it", "iterations depend on the batch")]
)
def test_a_length_that_a_schedule_cannot_have_is_refused(over: str, reason: str) -> None:
    with pytest.raises(Refused, match=f"batch_schedule.over={over}: {reason}"):
        Ramp(start=8, size=64, over=over)


def test_iterations_are_no_length_for_a_schedule_of_one_s_own() -> None:
    with pytest.raises(Refused, match="3it: iterations depend on the batch size"):
        TEN.samples(Duration.parse("3it"))
