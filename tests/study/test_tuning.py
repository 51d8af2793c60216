"""The search for a learning rate, and the lengths that equal time means."""

import math

import pytest

from mbtrain.study.calibration import Pace, lengths
from mbtrain.study.design import Case, Contrast, Design, Grid
from mbtrain.study.tuning import Search

GRID = Grid(points=3, factor=2.0, most_extensions=4)


def searched(loss: dict[int, float]) -> Search:
    """A search on losses that are known at every step."""
    search = Search(GRID)
    while True:
        for step in search.steps:
            search.note(step, [loss.get(step, math.inf)])
        if not search.widen():
            return search


@pytest.mark.parametrize("optimum", [-3, -2, -1, 0, 1, 2, 3])
def test_grid_grows_until_the_best_is_inside_it(optimum: int) -> None:
    search = searched({step: (step - optimum) ** 2 for step in range(-10, 11)})
    assert search.is_inside and search.best == optimum
    assert search.low == min(-1, optimum - 1) and search.high == max(1, optimum + 1)


def test_grid_stops_growing_after_its_most_extensions_and_says_that_the_best_is_at_the_edge() -> None:
    search = searched({step: -step for step in range(-10, 11)})
    assert not search.is_inside and len(search.steps) == 7


def test_rate_with_a_run_that_diverged_is_out_even_if_the_others_are_best() -> None:
    search = Search(GRID)
    for step, losses in {-1: [0.5, 0.5], 0: [0.4, 0.4], 1: [0.1, None]}.items():
        search.note(step, losses)
    assert search.best == 0 and search.is_inside


def test_where_all_diverged_smaller_rates_are_tried() -> None:
    search = searched({step: 1.0 if step <= -3 else math.inf for step in range(-10, 11)})
    assert search.best is not None and search.best <= -3


def test_rates_are_steps_of_the_factor_around_the_case_s_own() -> None:
    case = Case("c", (), lr=0.1, length=64, calibrate=64)
    assert [GRID.rate(case, step) for step in (-1, 0, 2)] == [0.05, 0.1, 0.4]


def test_equal_time_is_as_many_iterations_as_the_reference_s_time_holds() -> None:
    case = Case("c", (), lr=0.1, length=3200, calibrate=64)
    design = Design(
        "n", "q", "s", {"step": ("batch.size=32",), "direct": ("batch.size=256",)}, "step",
        Contrast("direct", "step", "time"), 0.1, (), GRID, (case,), 1, 2,
    )  # fmt: skip
    measured = {("c", "step"): Pace([1.0, 2.0, 90.0]), ("c", "direct"): Pace([5.0, 4.0, 5.0])}
    assert lengths(case, design, measured) == {"step": 100, "direct": 40}


def test_pace_is_the_median_and_one_slow_round_does_not_make_it_doubtful() -> None:
    assert Pace([1.0, 1.1, 9.0]).seconds == 1.1 and Pace([1.0, 1.1, 9.0]).is_steady
    assert not Pace([1.0, 2.0, 9.0]).is_steady
