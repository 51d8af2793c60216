"""The search for a learning rate: widened until the best is inside, refined around it; what it goes by."""

import math
from collections.abc import Callable

import pytest

from mbtrain.study.design import Grid, Target
from mbtrain.study.tuning import Search, samples_to

GRID = Grid(points=3, factor=2.0, most_extensions=4)


def searched(loss: Callable[[int], float], grid: Grid = GRID) -> Search:
    """A search on losses that are known at every step."""
    search = Search(grid, 0.1)
    while True:
        for step in search.steps:
            search.note(step, [loss(step)])
        if not search.widen():
            return search


@pytest.mark.parametrize("optimum", [-3, -2, -1, 0, 1, 2, 3])
def test_grid_grows_until_the_best_is_inside_it(optimum: int) -> None:
    search = searched(lambda step: (step - optimum) ** 2)
    assert search.is_inside and search.best == optimum
    assert sorted(search.steps) == list(range(min(-1, optimum - 1), max(1, optimum + 1) + 1))


def test_grid_stops_growing_after_its_most_extensions_and_says_that_the_best_is_at_the_edge() -> None:
    search = searched(lambda step: -step)
    assert not search.is_inside and len(search.steps) == 7


@pytest.mark.parametrize("optimum", [-1, 0, 1, 3])
def test_refined_grid_has_the_points_between_beside_the_best(optimum: int) -> None:
    search = searched(lambda step: (step - optimum) ** 2, Grid(points=3, factor=2.0, most_extensions=4, refinements=1))
    assert search.best == optimum and search.is_inside
    assert {optimum - 1, optimum + 1} <= set(search.steps)
    assert search.best_rate == pytest.approx(0.1 * 2 ** (optimum / 2), rel=1e-3)


def test_rate_with_a_run_that_diverged_is_out_even_if_the_others_are_best() -> None:
    search = Search(GRID, 0.1)
    for step, losses in {-1: [0.5, 0.5], 0: [0.4, 0.4], 1: [0.1, math.inf]}.items():
        search.note(step, losses)
    assert search.best == 0 and search.is_inside


def test_lucky_seed_does_not_choose() -> None:
    search = Search(GRID, 0.1)
    for step, losses in {-1: [0.5, 0.5], 0: [0.4, 0.4], 1: [0.1, 0.69]}.items():
        search.note(step, losses)
    assert search.best == 0


def test_where_all_diverged_smaller_rates_are_tried() -> None:
    search = searched(lambda step: 1.0 if step <= -3 else math.inf)
    assert search.best is not None and search.best <= -3


def test_rates_are_steps_of_the_factor_around_the_middle() -> None:
    assert [GRID.rate(0.1, step) for step in (-1, 0, 2)] == [0.05, 0.1, 0.4]


def test_score_of_a_target_is_the_samples_to_it_and_who_came_nearer_scores_better_than_who_did_not() -> None:
    target = Target("val/loss", 0.4)
    reached = samples_to(target, {"val/loss": 0.39, "samples_seen": 5000})
    near = samples_to(target, {"val/loss": 0.41, "samples_seen": 10000})
    far = samples_to(target, {"val/loss": 0.8, "samples_seen": 10000})
    assert reached == 5000 and 10000 < near < far
    assert samples_to(target, {"val/loss": math.nan, "samples_seen": 10}) == math.inf == samples_to(target, {})
