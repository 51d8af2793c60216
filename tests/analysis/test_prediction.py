"""What the law predicts of a race's arms, on runs that follow a law that is known."""

import math
from typing import Any

import numpy as np
import pytest

from mbtrain.analysis.prediction import Racer, Reading, readings, targets
from mbtrain.analysis.prediction_section import prediction_section
from mbtrain.analysis.trajectory import Trajectory

CRITICAL, MICRO, ONCE = 300.0, 0.001, 0.0006
SIZES = {"step": 32, "accumulate_2": 64, "accumulate_8": 256, "direct_4": 128, "direct_8": 256}
NUM_SEEDS = 6


def seconds(arm: str) -> float:
    """Of an update: micro-batches of 32 and what is paid once; in one piece they cost half as much."""
    return MICRO * SIZES[arm] / 32 * (0.5 if arm.startswith("direct") else 1.0) + ONCE


def run(size: int, seed: int, *, slower: float = 1.0) -> Trajectory:
    """A run whose loss is (B_crit + B) / samples: the samples to any loss follow the law."""
    samples = np.arange(50, 6001, 50)
    losses = slower * (1 + 0.01 * (seed - (NUM_SEEDS - 1) / 2)) * (CRITICAL + size) / samples
    return Trajectory((samples // size).tolist(), samples.tolist(), losses.tolist())


@pytest.fixture
def runs() -> dict[str, Trajectory]:
    return {f"run/{arm}{seed}": run(size, seed) for arm, size in SIZES.items() for seed in range(NUM_SEEDS)}


@pytest.fixture
def study() -> dict[str, Any]:
    case = {
        "schedule": "constant", "batch_sizes": SIZES, "is_inside": dict.fromkeys(SIZES, True),
        "seconds_per_iteration": {arm: [seconds(arm)] * 3 for arm in SIZES},
        "runs": {arm: [f"run/{arm}{seed}" for seed in range(NUM_SEEDS)] for arm in SIZES},
    }  # fmt: skip
    return {"reference": "step", "cases": {"digits": case}}


def halfway(study: dict[str, Any], runs: dict[str, Trajectory]) -> tuple[Reading, dict[str, Racer]]:
    """The target that the reference passes after half of its samples, and the arms on their way to it."""
    (found,) = [one for one in readings(study, runs) if one.place == "after 50 %"]
    return found, {one.name: one for one in found.racers}


def test_targets_are_what_the_reference_passes_and_where_it_ends() -> None:
    own = [Trajectory((1, 2, 4), (10, 20, 40), (1.0, 0.5, end)) for end in (0.1, 0.2, 0.3, 0.4, 0.5)]
    found = targets([*own, Trajectory()])
    assert list(found.values()) == pytest.approx([1.0, 0.5, 0.4, 0.3, 0.2])


@pytest.mark.parametrize("arm", ["accumulate_2", "accumulate_8", "direct_4", "direct_8"])
def test_runs_that_follow_the_law_take_what_it_predicts(
    study: dict[str, Any], runs: dict[str, Trajectory], arm: str
) -> None:
    found, racers = halfway(study, runs)
    predicted, observed = found.predicted(racers[arm]), found.observed(racers[arm])
    # Seconds a sample times E_min + S_min B, over those of the reference.
    known = seconds(arm) / SIZES[arm] / (seconds("step") / 32) * (CRITICAL + SIZES[arm]) / (CRITICAL + 32)
    assert predicted is not None and predicted.estimate == pytest.approx(known, rel=0.01)
    assert observed is not None and observed.estimate == pytest.approx(known, rel=0.01)
    assert observed.low < known < observed.high


def test_prediction_knows_nothing_of_the_runs_that_it_is_held_against(
    study: dict[str, Any], runs: dict[str, Trajectory]
) -> None:
    before, racers = halfway(study, runs)
    known, was = before.predicted(racers["accumulate_8"]), before.observed(racers["accumulate_8"])
    runs |= {f"run/accumulate_8{seed}": run(256, seed, slower=0.5) for seed in range(NUM_SEEDS)}
    after, racers = halfway(study, runs)
    now = after.observed(racers["accumulate_8"])
    assert after.predicted(racers["accumulate_8"]) == known
    assert was is not None and now is not None and now.estimate == pytest.approx(0.5 * was.estimate, rel=0.01)


def test_arm_with_a_run_that_did_not_get_there_has_no_observed_ratio_and_is_not_in_the_fit(
    study: dict[str, Any], runs: dict[str, Trajectory]
) -> None:
    runs["run/direct_80"] = Trajectory()
    found, racers = halfway(study, runs)
    assert found.observed(racers["direct_8"]) is None and not found.is_fitted(racers["direct_8"])
    assert found.law is not None and found.law.fitted.high == 128
    section = prediction_section(study, runs)
    assert section is not None
    remarks = {row[3].text: row[-1].text for row in section.tables[0].rows if row[1].text == "after 50 %"}
    assert remarks["direct_8"] == "5 of 6 runs of direct_8 got there" and remarks["direct_4"].startswith("in the fit")
    assert remarks["accumulate_2"] == "" and remarks["accumulate_8"] == "beyond the fit"


def test_arm_whose_rate_is_at_the_edge_is_not_in_the_fit(study: dict[str, Any], runs: dict[str, Trajectory]) -> None:
    study["cases"]["digits"]["is_inside"]["direct_4"] = False
    found, racers = halfway(study, runs)
    assert not found.is_fitted(racers["direct_4"]) and found.is_fitted(racers["direct_8"])


@pytest.mark.parametrize("once", [0.00005, 0.0006, 0.003])
def test_accumulating_is_said_to_pay_where_the_times_say_so(
    study: dict[str, Any], runs: dict[str, Trajectory], once: float
) -> None:
    timed = study["cases"]["digits"]["seconds_per_iteration"]
    timed |= {arm: [seconds(arm) - ONCE + once] for arm in SIZES}
    section, (found, racers) = prediction_section(study, runs), halfway(study, runs)
    assert section is not None
    (row,) = [row for row in section.tables[1].rows if row[1].text == "after 50 %"]
    assert row[4].key == pytest.approx(1e3 * MICRO) and row[5].key == pytest.approx(1e3 * once)
    assert row[7].key == pytest.approx(math.sqrt(CRITICAL * once / (32 * MICRO)), rel=0.01)
    ratios = {name: found.predicted(racers[f"accumulate_{name}"]) for name in (2, 8)}
    paying = [f"{name} x 32" for name, ratio in ratios.items() if ratio is not None and ratio.estimate < 1]
    assert row[8].text == (", ".join(paying) or "never here")


def test_section_counts_what_held(study: dict[str, Any], runs: dict[str, Trajectory]) -> None:
    runs |= {f"run/accumulate_8{seed}": run(256, seed, slower=0.5) for seed in range(NUM_SEEDS)}
    section = prediction_section(study, runs)
    assert section is not None
    # Two targets, at which both arms get there: accumulate_2 as predicted, accumulate_8 in half of the time.
    assert "Of 4 comparisons of arms that the law was not fitted on, 2 are within 20 %" in section.text[1]


@pytest.mark.parametrize(("key", "value"), [("schedule", "linear"), ("seconds_per_iteration", {})])
def test_case_that_cannot_be_read_on_the_way_is_left_out(
    study: dict[str, Any], runs: dict[str, Trajectory], key: str, value: Any
) -> None:
    study["cases"]["digits"][key] = value
    assert prediction_section(study, runs) is None


def test_law_through_two_sizes_is_not_counted_as_having_met_them(
    study: dict[str, Any], runs: dict[str, Trajectory]
) -> None:
    section = prediction_section(study, runs)
    assert section is not None and any("that it was fitted on" in told for told in section.text)
    runs["run/direct_40"] = Trajectory()
    section = prediction_section(study, runs)
    assert section is not None and not any("that it was fitted on" in told for told in section.text)
    remarks = {row[3].text: row[-1].text for row in section.tables[0].rows if row[1].text == "after 50 %"}
    assert remarks["direct_8"] == "in the fit, which meets two sizes by itself"


def test_target_that_too_few_arms_get_to_is_not_said_to_have_no_bend(
    study: dict[str, Any], runs: dict[str, Trajectory]
) -> None:
    runs |= {"run/direct_40": Trajectory(), "run/direct_80": Trajectory()}
    section = prediction_section(study, runs)
    assert section is not None
    assert {row[3].text for row in section.tables[1].rows} == {"too few arms got there"}
