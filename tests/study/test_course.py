"""How long arms train: equal time, samples and updates, and the lengths between which a target lies."""

import dataclasses

import pytest

from mbtrain.study.calibration import Pace
from mbtrain.study.course import Course
from mbtrain.study.design import Case, Design, Grid, Target
from mbtrain.study.lengths import common, durations
from mbtrain.study.rounds import bracket, lengthened
from mbtrain.study.setting import Setting
from mbtrain.study.tuning import Search

CASE = Case("c", (), lr=0.1, length=3200)
SIZES = {"step": 32, "direct": 256}
PACES = {"step": Pace([1.0, 2.0, 90.0]), "direct": Pace([5.0, 4.0, 5.0])}
GRID = Grid(points=3, factor=2.0, most_extensions=4, power=0.5)
DESIGN = Design(
    name="n", question="q", scale="s", budget="time", also=("samples", "updates"), target=None,
    arms={"step": ("batch.size=32",), "direct": ("batch.size=256",)}, reference="step", primary=None, contrasts=(),
    rate_of={}, times={}, margin=0.1, columns=(), limits=(), overrides=(), grid=GRID, cases=(CASE,), num_tuning_seeds=1,
    num_seeds=2,
)  # fmt: skip


def test_equal_time_is_as_many_iterations_as_the_reference_s_time_holds() -> None:
    assert durations(CASE, "time", "step", SIZES, PACES) == {"step": "100it", "direct": "40it"}


def test_equal_samples_and_equal_updates_are_those_of_the_reference() -> None:
    assert durations(CASE, "samples", "step", SIZES, {}) == {"step": "3200sp", "direct": "3200sp"}
    assert durations(CASE, "updates", "step", SIZES, {}) == {"step": "100it", "direct": "100it"}


def test_arm_may_have_several_times_the_samples() -> None:
    design = dataclasses.replace(DESIGN, budget="samples", times={"direct": 8})
    main = Course(CASE, design, SIZES, {}, "constant").main()
    assert {arm: one.duration for arm, one in main.items()} == {"step": "3200sp", "direct": "25600sp"}


def test_on_the_way_to_a_target_large_batches_may_take_more_samples() -> None:
    case = dataclasses.replace(CASE, updates=10)
    assert durations(case, "target", "step", SIZES, {}) == {"step": "3520sp", "direct": "5760sp"}


def test_further_budgets_are_the_most_that_every_arm_has() -> None:
    own = {"step": "100it", "direct": "40it"}
    assert common("samples", own, SIZES) == "3200sp" and common("updates", own, SIZES) == "40it"


def test_falling_rate_needs_runs_of_its_own_at_further_budgets_a_constant_one_does_not() -> None:
    assert Course(CASE, DESIGN, SIZES, PACES, "constant").further() == {}
    further = Course(CASE, DESIGN, SIZES, PACES, "linear").further()
    assert {budget: {one.duration for one in own.values()} for budget, own in further.items()} == {
        "samples": {"3200sp"}, "updates": {"40it"},
    }  # fmt: skip


def test_every_arm_is_validated_twice_before_the_updates_that_all_have() -> None:
    course = Course(CASE, DESIGN, SIZES, PACES, "constant")
    assert course.validate_every <= 40 * 32 // 2 and course.validate_every * 20 <= 3200


def test_no_arm_is_validated_oftener_than_its_curve_asks_for_where_updates_are_no_budget() -> None:
    course = Course(CASE, dataclasses.replace(DESIGN, also=["samples"]), SIZES, PACES, "constant")
    assert course.validate_every == 3200 // 20


def test_middle_of_the_grid_moves_with_the_batch_size_by_the_power() -> None:
    course = Course(CASE, DESIGN, SIZES, PACES, "constant")
    assert course.middle("step") == 0.1 and course.middle("direct") == pytest.approx(0.1 * 8**0.5)


def searches(losses: dict[int, float]) -> dict[Setting, Search]:
    """Searches that are over, by length in samples, with the loss at the best rate."""
    found = {}
    for length, loss in losses.items():
        search = Search(GRID, 0.1)
        search.note(0, [loss])
        found[Setting(CASE, "step", f"{length}sp")] = search
    return found


@pytest.mark.parametrize(
    ("losses", "new"),
    [
        ({1000: 0.5}, "2000sp"),
        ({1000: 0.5, 2000: 0.45}, "4000sp"),
        ({1000: 0.3}, "500sp"),
        ({1000: 0.5, 2000: 0.39}, None),
        ({1000: 0.5, 2000: 0.395}, "4000sp"),
        ({1000: 0.405, 2000: 0.39}, "500sp"),
        ({1000 * 2**k: 0.5 for k in range(6)}, None),
    ],
)
def test_lengths_are_doubled_or_halved_until_the_target_lies_between_two(losses: dict[int, float], new: str) -> None:
    found = searches(losses)
    assert [one.duration for one in lengthened(list(found), found, Target("val/loss", 0.4))] == ([new] if new else [])


def test_lengths_that_answer_are_those_next_to_the_target() -> None:
    found = searches({4000: 0.39, 1000: 0.6, 2000: 0.45, 8000: 0.3})
    assert [one.duration for one in bracket(list(found), found, Target("val/loss", 0.4))] == ["2000sp", "4000sp"]
    found = searches({4000: 0.399, 1000: 0.6, 2000: 0.45, 8000: 0.3})
    lengths = [one.duration for one in bracket(list(found), found, Target("val/loss", 0.4))]
    assert lengths == ["2000sp", "4000sp", "8000sp"]


def test_arm_takes_the_rate_that_was_tuned_for_another() -> None:
    from mbtrain.study.study import rate

    course = Course(CASE, dataclasses.replace(DESIGN, rate_of={"direct": "step"}), SIZES, PACES, "constant")
    search = Search(GRID, 0.1)
    search.note(1, [0.3])
    main = course.main()
    assert rate(main["direct"], course, {main["step"]: search}) == 0.2


def test_pace_is_the_median_and_one_slow_round_does_not_make_it_doubtful() -> None:
    assert Pace([1.0, 1.1, 9.0]).seconds == 1.1 and Pace([1.0, 1.1, 9.0]).is_steady
    assert not Pace([1.0, 2.0, 9.0]).is_steady
