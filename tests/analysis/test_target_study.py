"""The page of a study to a target, from runs that follow a law that is known."""

from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest

from mbtrain.analysis.reaching import between, crossing
from mbtrain.analysis.study import write_study
from mbtrain.analysis.target_study import cases_of
from mbtrain.analysis.trajectory import Trajectory, trajectories

CRITICAL, LEAST, NUM_SEEDS = 300.0, 80.0, 6
SIZES = (16, 64, 256, 1024)


def needed(size: int, seed: int) -> float:
    """Samples to the target."""
    return LEAST * (CRITICAL + size) * (1 + 0.02 * (seed - (NUM_SEEDS - 1) / 2))


def write_run(folder: Path, samples: list[int], losses: list[float]) -> str:
    folder.mkdir(parents=True)
    rows = [{"iteration": n, "samples_seen": n, "val/loss": loss} for n, loss in zip(samples, losses, strict=True)]
    (folder / "epochs.jsonl").write_bytes(b"".join(orjson.dumps(row) + b"\n" for row in rows))
    (folder / "iterations.jsonl").write_bytes(orjson.dumps({"iteration": 1, "noise/averaged_scale": 123.0}) + b"\n")
    result = {"val/loss": losses[-1], "iterations": samples[-1], "samples_seen": samples[-1]}
    (folder / "result.json").write_bytes(orjson.dumps(result))
    return f"run/{folder.name}"


def crossed(root: Path, size: int, seed: int) -> str:
    """A run under a constant rate: its loss falls past 0.4 where it is to."""
    at = needed(size, seed)
    samples = [round(at - 500), round(at + 500)]
    share = (at - samples[0]) / (samples[1] - samples[0])
    return write_run(root / f"run/c{size}_{seed}", samples, [0.4 + 0.02 * share, 0.4 - 0.02 * (1 - share)])


def ended(root: Path, size: int, seed: int, length: int) -> str:
    """A run under a rate that falls with its length: its end is above or below 0.4 by the logarithm of the length."""
    return write_run(
        root / f"run/d{size}_{seed}_{length}", [length], [0.4 - 0.1 * float(np.log(length / needed(size, seed)))]
    )


def at(runs: list[str], *, is_inside: bool = True) -> dict[str, Any]:
    return {"rate": 0.1, "is_inside": is_inside, "tuning": [[0.1, 5000.0], [0.2, None]], "runs": runs}


@pytest.fixture
def study(tmp_path: Path) -> dict[str, Any]:
    constant = {
        f"b{size}": {
            "batch_size": size, "seconds_per_iteration": [0.001 + 1e-5 * size] * 3,
            "lengths": {"200000": at([crossed(tmp_path, size, seed) for seed in range(NUM_SEEDS)])},
        } for size in SIZES
    }  # fmt: skip
    falling = {
        f"b{size}": {
            "batch_size": size, "seconds_per_iteration": [],
            "lengths": {
                str(length): at([ended(tmp_path, size, seed, length) for seed in range(NUM_SEEDS)])
                for length in (round(0.8 * needed(size, 2)), round(1.6 * needed(size, 2)))
            },
        } for size in SIZES
    }  # fmt: skip
    content = {
        "question": "How long?", "name": "batch_size", "scale": "cpu", "command": "mbtrain study=x", "git": None,
        "versions": {"torch": "2"}, "cores": 2, "budget": "target", "target": {"key": "val/loss", "below": 0.4},
        "rate_of": {}, "columns": ["noise/averaged_scale"], "limits": ["Only here."],
        "cases": {
            "flat": {"overrides": [], "schedule": "constant", "arms": constant},
            "falls": {"overrides": [], "schedule": "linear", "arms": falling},
        },
    }  # fmt: skip
    (tmp_path / "study.json").write_bytes(orjson.dumps(content))
    return content


@pytest.mark.parametrize("case", [0, 1])
def test_law_is_found_whether_runs_cross_the_target_or_end_around_it(
    study: dict[str, Any], tmp_path: Path, case: int
) -> None:
    found = cases_of(study, trajectories(tmp_path, study))[case]
    assert found.law is not None
    assert found.law.fitted.critical_size == pytest.approx(CRITICAL, rel=0.01)
    assert found.law.fitted.least_updates == pytest.approx(LEAST, rel=0.01)
    interval = found.law.critical_size()
    assert interval.low < CRITICAL < interval.high


def test_page_answers_in_a_sentence_a_case_and_can_be_written_again_without_the_logs(
    study: dict[str, Any], tmp_path: Path
) -> None:
    _, answers = write_study(tmp_path)
    assert answers[0].startswith("flat: to val/loss 0.4 under a constant learning rate the critical batch size is 300")
    assert "Fastest here is B = 256" in answers[0] and "Fastest" not in answers[1]
    text = (tmp_path / "report" / "study.md").read_text()
    assert "Only here." in text and len(list((tmp_path / "report" / "figures").glob("*.png"))) == 6
    (tmp_path / "run").rename(tmp_path / "gone")
    assert write_study(tmp_path)[1] == answers


def test_arm_that_did_not_always_reach_the_target_is_left_out_and_said(study: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "run/c1024_0/result.json").unlink()
    study["cases"]["flat"]["arms"]["b16"]["lengths"]["200000"]["is_inside"] = False
    (tmp_path / "study.json").write_bytes(orjson.dumps(study))
    case = cases_of(study, trajectories(tmp_path, study))[0]
    assert [one.size for one in case.fitted] == [64, 256]
    write_study(tmp_path)
    text = (tmp_path / "report" / "study.md").read_text()
    assert "b1024 is left out of the fit: 5 of 6 runs reached the target." in text
    assert "b16 is left out of the fit: its best learning rate is at the edge of the grid." in text


def test_arm_whose_lengths_miss_the_target_is_not_said_to_miss_it(study: dict[str, Any], tmp_path: Path) -> None:
    study["target"]["below"] = 0.45  # every length ends below it
    arm = cases_of(study, trajectories(tmp_path, study))[1].arms[0]
    assert arm.why_not == "the target lies between no two lengths that were run, or a run diverged"


def test_arm_that_takes_another_s_rate_is_not_fitted_but_its_noise_scale_is_told(
    study: dict[str, Any], tmp_path: Path
) -> None:
    arms = study["cases"]["flat"]["arms"]
    arms["b64_probed"] = arms["b64"]
    study["rate_of"] = {"b64_probed": "b64"}
    case = cases_of(study, trajectories(tmp_path, study))[0]
    assert len(case.arms) == len(SIZES) and case.noise_scale == 123.0


def test_crossing_lies_on_the_line_between_two_validations_and_is_nan_where_there_is_none() -> None:
    run = Trajectory((1, 2, 3), (100, 200, 300), (0.6, 0.45, 0.35))
    assert crossing(run, 0.4) == pytest.approx(250.0) and crossing(run, 0.7) == 100.0 and np.isnan(crossing(run, 0.1))
    assert np.isnan(crossing(Trajectory(), 0.1))


def test_target_between_no_two_lengths_is_not_extrapolated() -> None:
    assert between({1000: [0.5, 0.5], 2000: [0.45, 0.44]}, 0.4) == []
    assert between({1000: [0.3, 0.3], 2000: [0.25, 0.24]}, 0.4) == []
    assert between({1000: [0.5, float("nan")], 2000: [0.3, 0.3]}, 0.4) == []
    # A lucky short length is no bracket for one that is shorter still.
    assert between({1000: [0.39, 0.39], 2000: [0.41, 0.41]}, 0.4) == []
