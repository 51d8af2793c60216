"""The verdict of a contrast: what it says of which runs, and how often it errs."""

import math
from typing import Any

import numpy as np
import pytest

from mbtrain.analysis.contrast import permutation, tost, welch
from mbtrain.analysis.decision import decide, verdict
from mbtrain.analysis.power import equivalence_seeds_needed, seeds_needed
from mbtrain.analysis.statistics import difference_interval

LOW, HIGH = [1.0, 1.1, 0.9, 1.05], [1.5, 1.6, 1.4, 1.55]
DRAWS: dict[str, Any] = {
    "normal": lambda random, n: random.normal(0, 1, n),
    "skewed": lambda random, n: random.lognormal(0, 0.5, n),
    "coarse": lambda random, n: random.integers(0, 2, n).astype(float),
}


@pytest.mark.parametrize(
    ("arm", "reference", "margin", "answer"),
    [
        (LOW, HIGH, 0.1, "helps"),
        (HIGH, LOW, 0.1, "hurts"),
        (LOW, LOW, 0.5, "equal within the margin"),
        (LOW, LOW, 0.01, "cannot tell"),
    ],
)
def test_smaller_values_help(arm: list[float], reference: list[float], margin: float, answer: str) -> None:
    assert decide(arm, reference, margin=margin).answer == answer


def test_a_difference_that_is_sure_and_surely_smaller_than_the_margin_is_equality() -> None:
    decision = decide(LOW, HIGH, margin=5.0)
    assert decision.welch.p < 0.05
    assert decision.answer == "equal within the margin"


def test_a_decision_carries_what_it_rests_on() -> None:
    decision = decide(LOW, HIGH, margin=0.1, alpha=0.01)
    assert decision.difference == difference_interval(LOW, HIGH, level=0.99)
    assert (decision.welch, decision.tost) == (welch(LOW, HIGH), tost(LOW, HIGH, 0.1))
    assert decision.permutation == permutation(LOW, HIGH)


def test_alpha_is_the_bar() -> None:
    p = welch(LOW, [1.1, 1.3, 1.2, 1.3]).p
    answers = [decide(LOW, [1.1, 1.3, 1.2, 1.3], margin=0.01, alpha=bar).answer for bar in (p * 0.99, p * 1.01)]
    assert answers == ["cannot tell", "helps"]


def test_seeds_needed_see_the_margin_and_its_absence_at_the_spread_of_the_runs() -> None:
    sd = math.sqrt((np.var(LOW, ddof=1) + np.var(HIGH, ddof=1)) / 2)
    found = decide(LOW, HIGH, margin=0.05, alpha=0.1, power=0.9).seeds_needed
    bars: Any = {"alpha": 0.1, "power_wanted": 0.9}
    assert found == max(seeds_needed(0.05, sd, **bars), equivalence_seeds_needed(0.05, sd, **bars))


@pytest.mark.parametrize(("arm", "reference"), [([1.0], HIGH), (LOW, []), ([1.0, math.nan], HIGH)])
def test_an_arm_of_fewer_than_two_runs_cannot_say_how_many_would_tell(arm: Any, reference: Any) -> None:
    decision = decide(arm, reference, margin=0.1)
    assert (decision.answer, decision.seeds_needed) == ("cannot tell", None)


def test_two_runs_claim_nothing_and_say_how_many_would() -> None:
    decision = decide([1.0, 1.001], [2.0, 2.001], margin=0.1)
    assert decision.welch.p < 0.05
    assert (decision.answer, decision.seeds_needed) == ("cannot tell", 3)
    assert decision.reason == "an arm has fewer than 3 runs that finished"


def test_an_arm_that_lost_runs_is_not_said_to_help() -> None:
    decision = decide([*LOW, math.nan], HIGH, margin=0.1)
    assert decision.answer == "cannot tell"
    assert decision.reason == "runs diverged (1): the others alone would say 'helps'"
    assert (decision.num_diverged, decision.welch.num_a) == ((1, 0), 4)


@pytest.mark.parametrize(
    ("arm", "reference", "answer"),
    [
        ([*HIGH, math.inf], LOW, "hurts"),
        (HIGH, [*LOW, math.inf], "cannot tell"),
        ([*LOW, math.inf], LOW, "cannot tell"),
        (LOW, [*LOW, math.inf], "cannot tell"),
    ],
)
def test_a_diverged_run_counts_against_its_own_arm_alone(arm: Any, reference: Any, answer: str) -> None:
    assert decide(arm, reference, margin=0.4).answer == answer


def test_arms_without_spread_are_told_apart_from_four_runs_on() -> None:
    answers = [decide([0.1] * n, [0.2] * n, margin=0.01).answer for n in (3, 4)]
    assert answers == ["cannot tell", "helps"]


def claims(draw: Any, n: int, *, shift: float = 0.0, margin: float = 1e-3, num_sweeps: int = 2000) -> list[str]:
    random = np.random.default_rng(13)
    pairs = ((draw(random, n) + shift, draw(random, n)) for _ in range(num_sweeps))
    return [verdict(welch(*arms), tost(*arms, margin), alpha=0.05)[0] for arms in pairs]


@pytest.mark.parametrize("n", [2, 3, 5, 10, 30])
@pytest.mark.parametrize("draw", DRAWS)
def test_a_difference_that_is_not_there_is_claimed_in_less_than_6_5_percent(draw: str, n: int) -> None:
    found = claims(DRAWS[draw], n)
    assert sum(answer in {"helps", "hurts"} for answer in found) / len(found) <= 0.065


def test_equality_at_the_margin_is_claimed_in_less_than_6_5_percent() -> None:
    found = claims(DRAWS["normal"], 8, shift=1.0, margin=1.0)
    assert found.count("equal within the margin") / len(found) <= 0.065


@pytest.mark.parametrize(("shift", "answer"), [(0.0, "equal within the margin"), (1.0, "hurts")])
def test_the_seeds_that_a_decision_asks_for_tell_with_the_power_it_promises(shift: float, answer: str) -> None:
    """The seeds are the larger of two needs, so the power is at least what was asked; TOST takes none of it."""
    n = max(seeds_needed(1.0, 1.0), equivalence_seeds_needed(1.0, 1.0))
    found = claims(DRAWS["normal"], n, shift=shift, margin=1.0)
    assert 0.78 < found.count(answer) / len(found) < 0.86
