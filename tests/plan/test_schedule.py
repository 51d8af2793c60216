"""Learning-rate schedules as functions of samples seen."""

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mbtrain.plan.duration import Duration
from mbtrain.plan.refused import Refused
from mbtrain.plan.run import RunPlan
from mbtrain.plan.schedule import Constant, Cosine, Linear, Step


def plan(batch_size: int = 32, num_samples: int = 1000, duration: str = "10ep") -> RunPlan:
    return RunPlan(num_samples=num_samples, batch_size=batch_size, duration=Duration.parse(duration))


TOTAL = 10_000


@pytest.mark.parametrize(
    ("schedule", "values"),
    [
        (Constant(), (1, 1, 1)),
        (Linear(), (1, 0.5, 0)),
        (Linear(final=0.2), (1, 0.6, 0.2)),
        (Cosine(), (1, 0.5, 0)),
        (Cosine(final=0.1), (1, 0.55, 0.1)),
        (Step(at=["50%"]), (1, 0.1, 0.1)),
        (Step(at=["2ep", "7500sp"], factor=0.5), (1, 0.5, 0.25)),
    ],
)
def test_value_at_start_middle_and_end(schedule: Any, values: tuple[float, float, float]) -> None:
    factor = schedule(plan())
    assert [factor(0), factor(TOTAL / 2), factor(TOTAL)] == pytest.approx(values, abs=1e-12)


@given(st.floats(0, TOTAL))
def test_cosine_is_the_closed_form(samples: float) -> None:
    assert Cosine()(plan())(samples) == pytest.approx((1 + math.cos(math.pi * samples / TOTAL)) / 2, abs=1e-12)


@pytest.mark.parametrize("schedule", [Constant(), Linear(), Cosine(), Step(at=["30%", "3ep"])])
@given(st.integers(1, 1000), st.integers(1, 1000), st.floats(0, TOTAL))
def test_the_curve_is_the_same_for_any_batch_size(schedule: Any, one: int, other: int, samples: float) -> None:
    assert schedule(plan(one))(samples) == schedule(plan(other))(samples)


@pytest.mark.parametrize("schedule", [Constant(warmup="10%"), Linear(warmup="1ep"), Cosine(warmup="1000sp")])
def test_warm_up_rises_straight_from_nothing_to_the_learning_rate(schedule: Any) -> None:
    factor = schedule(plan())
    assert [factor(0), factor(250), factor(500), factor(1000)] == pytest.approx([0, 0.25, 0.5, 1], abs=1e-12)


def test_after_the_warm_up_the_shape_takes_the_rest_of_the_run() -> None:
    assert Linear(warmup="20%")(plan())(6000) == pytest.approx(0.5)


def test_a_warm_up_over_the_whole_run_ends_at_the_learning_rate_only() -> None:
    factor = Constant(warmup="100%")(plan())
    assert (factor(TOTAL / 2), factor(TOTAL)) == (0.5, 1)


@pytest.mark.parametrize("schedule", [Linear(), Cosine(final=0.1)])
def test_past_the_end_the_last_value_stays(schedule: Any) -> None:
    factor = schedule(plan())
    assert factor(TOTAL + 31) == factor(TOTAL)


def test_step_warms_up_too() -> None:
    assert Step(at=["50%"], warmup="10%")(plan())(500) == pytest.approx(0.5)


@pytest.mark.parametrize("at", [[], "50%", 3, None])
def test_steps_that_are_no_list_are_refused(at: Any) -> None:
    with pytest.raises(Refused, match=r"lr_schedule.at=.*: must be a list of lengths such as \[50%,75%\]"):
        Step(at=at)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Constant(warmup="abc"), "lr_schedule.warmup=abc: not a length"),
        (lambda: Step(at=["50%", "x"]), "lr_schedule.at=x: not a length"),
        (lambda: Cosine(final="a"), "lr_schedule.final=a: must be a number of at least 0"),  # pyright: ignore
        (lambda: Linear(final=-1), "lr_schedule.final=-1: must be"),
        (lambda: Linear(final=math.nan), "lr_schedule.final=nan: must be"),
        (lambda: Step(at=["1ep"], factor=True), "lr_schedule.factor=True: must be"),
    ],
)
def test_a_bad_option_is_refused_with_its_key(make: Any, message: str) -> None:
    with pytest.raises(Refused, match=message):
        make()
