"""Lengths of training and what happens every so often."""

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mbtrain.plan.duration import Cadence, Duration, Points
from mbtrain.plan.refused import Refused
from mbtrain.plan.run import RunPlan


@pytest.mark.parametrize("text", ["5ep", "200it", "6400sp", "50%", "0.5ep", "12.5%"])
def test_a_duration_writes_what_it_read(text: str) -> None:
    assert str(Duration.parse(text)) == text


@pytest.mark.parametrize(
    ("text", "amount", "unit"),
    [
        (" 5 ep ", 5, "ep"),
        ("1e3it", 1000, "it"),
        ("1e+2sp", 100, "sp"),
        ("0.1ep", Fraction(1, 10), "ep"),
        ("2.0it", 2, "it"),
    ],
)
def test_a_duration_is_exact(text: str, amount: Fraction, unit: str) -> None:
    assert Duration.parse(text) == Duration(Fraction(amount), unit)  # pyright: ignore[reportArgumentType]


BAD = ["", "5", "ep", "5 epochs", "5eps", "-1ep", "+1ep", "1e-2ep", ".5ep", "5ep3", "5ep\nx", "nanep", "infep", "٣x"]


@pytest.mark.parametrize("value", [*BAD, 5, 5.0, None, True, ["5ep"], {}])
def test_what_is_no_length_is_refused(value: object) -> None:
    with pytest.raises(Refused, match="not a length such as 5ep"):
        Duration.parse(value)


@pytest.mark.parametrize("text", ["0ep", "0it", "0.0%", "0e5sp"])
def test_a_length_of_nothing_is_refused(text: str) -> None:
    with pytest.raises(Refused, match="must be more than zero"):
        Duration.parse(text)


@pytest.mark.parametrize("text", ["1.5it", "0.5sp"])
def test_half_an_iteration_is_refused(text: str) -> None:
    with pytest.raises(Refused, match="whole numbers"):
        Duration.parse(text)


lengths = st.one_of(
    st.integers(1, 40).map("{}it".format),
    st.integers(1, 900).map("{}sp".format),
    st.integers(1, 40).map(lambda tenths: f"{tenths / 10}ep"),
    st.integers(1, 100).map("{}%".format),
)


def plan(num_samples: int = 100, batch_size: int = 32, duration: str = "6ep") -> RunPlan:
    return RunPlan(num_samples=num_samples, batch_size=batch_size, duration=Duration.parse(duration))


@given(st.integers(1, 120), st.integers(1, 50), lengths)
def test_a_cadence_is_due_once_for_the_multiples_that_an_iteration_reaches(
    num_samples: int, batch_size: int, every: str
) -> None:
    run = plan(num_samples, batch_size)
    cadence, length = run.cadence(Duration.parse(every)), Duration.parse(every)
    for index in range(run.num_iterations):
        one = run.iteration(index)
        if length.unit == "it":
            is_reached = (index + 1) % length.amount == 0
        else:
            step = run.samples(length)
            next_multiple = (one.samples_before // step + 1) * step
            is_reached = next_multiple <= one.samples_after
        assert cadence.is_due(index, one.samples_before, one.samples_after) == is_reached


def test_a_cadence_of_an_epoch_is_due_at_each_last_iteration() -> None:
    run = plan()
    cadence = run.cadence(Duration.parse("1ep"))
    for index in range(run.num_iterations):
        one = run.iteration(index)
        assert cadence.is_due(index, one.samples_before, one.samples_after) == one.is_last_of_epoch


def test_a_cadence_in_iterations_needs_no_plan() -> None:
    cadence = Cadence(Duration.parse("3it"), horizon=None)
    assert [cadence.is_due(index, 0, 0) for index in range(6)] == [False, False, True] * 2


def test_points_are_due_at_the_first_iteration_that_ends_at_or_after_each() -> None:
    run = plan(100, 32, "3ep")
    points = run.points([Duration.parse(one) for one in ("2it", "100sp", "100%")])
    passed = [(one.samples_before, one.samples_after) for one in map(run.iteration, range(run.num_iterations))]
    assert [index for index, (before, after) in enumerate(passed) if points.is_due(index, before, after)] == [1, 3, 11]


def test_points_of_samples_need_no_plan() -> None:
    points = Points([Duration.parse("100sp")], horizon=None)
    assert [points.is_due(index, 40 * index, 40 * index + 40) for index in range(4)] == [False, False, True, False]
