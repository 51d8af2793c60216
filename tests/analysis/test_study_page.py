"""A study's page from runs whose losses are known."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest

from mbtrain.analysis.__main__ import main
from mbtrain.analysis.budgets import losses_by_budget
from mbtrain.analysis.comparisons import contrasts
from mbtrain.analysis.study import write_study
from mbtrain.analysis.trajectory import Trajectory, trajectories, trajectory

BUDGETS = ["time", "samples", "updates"]

# loss = base / (samples / 1000), plus a seed's own part: known at every budget.
BASES = {"step": 1.0, "accumulate": 1.5}
SIZES = {"step": 32, "accumulate": 256}
NUM_SEEDS = 5


def write_run(folder: Path, base: float, seed: int, *, samples: list[int], size: int = 1, is_done: bool = True) -> None:
    folder.mkdir(parents=True)
    losses = [base / (count / 1000) + 0.001 * seed for count in samples]
    rows = [
        {"iteration": count // size, "samples_seen": count, "val/loss": loss}
        for count, loss in zip(samples, losses, strict=True)
    ]
    # The end of an epoch without a validation; and the last validation is that of the result.
    rows.insert(1, {"iteration": rows[0]["iteration"] + 1, "samples_seen": samples[0] + 1, "train/loss": 9.0})
    rows.pop()
    (folder / "epochs.jsonl").write_bytes(b"".join(orjson.dumps(row) + b"\n" for row in rows))
    if is_done:
        result = {"val/loss": losses[-1], "iterations": samples[-1] // size, "samples_seen": samples[-1]}
        (folder / "result.json").write_bytes(orjson.dumps(result))


@pytest.fixture
def study(tmp_path: Path) -> dict[str, Any]:
    runs = {arm: [f"run/{arm}{seed}" for seed in range(NUM_SEEDS)] for arm in BASES}
    for arm, folders in runs.items():
        ends = [768, 1792, 3584, 5376] if arm == "step" else [1792, 3584, 5376, 7168]
        for seed, folder in enumerate(folders):
            write_run(tmp_path / folder, BASES[arm], seed, samples=ends, size=SIZES[arm])
    case = {
        "overrides": ["model=<b>"],
        "batch_sizes": SIZES,
        "durations": {"step": "168it", "accumulate": "28it"},
        "seconds_per_iteration": {"step": [0.001] * 3, "accumulate": [0.006] * 3},
        "is_steady": True,
        "rates": {"step": 0.1, "accumulate": 0.2},
        "is_inside": {"step": True, "accumulate": False},
        "tuning": {"step": [[0.1, 0.5], [0.2, None]], "accumulate": [[0.2, 0.4]]},
        "runs": runs,
        "also": {},
    }
    content = {
        "question": "Does it?", "name": "accumulation", "scale": "demo", "command": "mbtrain study=x", "git": None,
        "versions": {"torch": "2"}, "cores": 2, "margin": 0.01, "cases": {"digits": case},
        "limits": ["Only so far."], "columns": ["iterations"],
        "primary": {"arm": "accumulate", "against": "step"}, "contrasts": [], "reference": "step",
        "budget": "time", "budgets": BUDGETS,
    }  # fmt: skip
    (tmp_path / "study.json").write_bytes(orjson.dumps(content))
    return content


def test_budgets_are_read_where_they_stand_on_the_trajectory(study: dict[str, Any], tmp_path: Path) -> None:
    losses = losses_by_budget(study["cases"]["digits"], BUDGETS, trajectories(tmp_path, study))
    seeds = 0.001 * np.arange(NUM_SEEDS)
    # The most samples that both arms have: 5,376; the most updates: 28, which are 896 samples of `step`.
    assert losses["samples"]["step"] == pytest.approx(1000 / 5376 + seeds)
    assert losses["samples"]["accumulate"] == pytest.approx(1500 / 5376 + seeds)
    between = 1000 / 768 + (896 - 768) / (1792 - 768) * (1000 / 1792 - 1000 / 768)
    assert losses["updates"]["step"] == pytest.approx(between + seeds)
    assert losses["updates"]["accumulate"] == pytest.approx(1500 / 7168 + seeds)
    assert losses["time"]["step"] == pytest.approx(1000 / 5376 + seeds)
    assert losses["time"]["accumulate"] == pytest.approx(1500 / 7168 + seeds)


def test_run_that_did_not_finish_has_no_loss_anywhere(tmp_path: Path) -> None:
    write_run(tmp_path / "run", 1.0, 0, samples=[100, 200], is_done=False)
    found = trajectory(tmp_path / "run")
    assert np.isnan(found.final) and np.isnan(found.at_samples(150)) and np.isnan(found.at_updates(1))


def test_loss_between_two_validations_lies_on_the_line_and_nothing_is_said_beyond_them() -> None:
    found = Trajectory((10, 20), (100, 200), (1.0, 0.5))
    assert found.at_samples(125) == 0.875 and found.at_updates(15) == 0.75 and found.final == 0.5
    assert np.isnan(found.at_samples(99)) and np.isnan(found.at_samples(201))


def test_primary_contrast_is_the_one_that_was_fixed(study: dict[str, Any], tmp_path: Path) -> None:
    found = list(contrasts(study, trajectories(tmp_path, study)))
    (primary,) = [one for one in found if one.is_primary]
    assert (primary.arm, primary.against, primary.budget) == ("accumulate", "step", "time")
    assert primary.decision.answer == "hurts" and len(found) == 3
    assert primary.decision.difference.estimate == pytest.approx(1500 / 7168 - 1000 / 5376)


def test_page_answers_first_and_shows_what_was_tuned_and_timed(study: dict[str, Any], tmp_path: Path) -> None:
    page, answers = write_study(tmp_path)
    (answer,) = answers
    assert answer.startswith("digits: accumulate (batch 256) hurts against step (batch 32) at equal time")
    text = page.read_text()
    assert "equal time is doubtful" not in text
    assert answer.split(":")[0] in text and "AT THE EDGE of the grid" in text and "diverged" in text
    assert "<b>" not in text.split("<body", 1)[1].replace("&lt;b&gt;", "")
    assert (tmp_path / "report" / "study.md").is_file()
    assert len(list((tmp_path / "report" / "figures").glob("*.png"))) == 2


def test_page_says_where_the_pace_was_not_steady(study: dict[str, Any], tmp_path: Path) -> None:
    study["cases"]["digits"]["is_steady"] = False
    (tmp_path / "study.json").write_bytes(orjson.dumps(study))
    page, _ = write_study(tmp_path)
    assert "kept the machine busy while digits was timed: equal time is doubtful there" in page.read_text()


def test_copied_study_without_its_logs_gives_the_same_page(study: dict[str, Any], tmp_path: Path) -> None:
    page, answers = write_study(tmp_path)
    text = (tmp_path / "report" / "study.md").read_text()
    shutil.rmtree(tmp_path / "run")
    assert write_study(tmp_path)[1] == answers
    assert (tmp_path / "report" / "study.md").read_text() == text


def test_budget_with_runs_of_its_own_is_their_end(study: dict[str, Any], tmp_path: Path) -> None:
    case = study["cases"]["digits"]
    for arm in BASES:
        write_run(tmp_path / f"run/{arm}_short", BASES[arm], 0, samples=[500, 1000])
    case["also"] = {"samples": {arm: [f"run/{arm}_short"] for arm in BASES}}
    losses = losses_by_budget(case, BUDGETS, trajectories(tmp_path, study))
    assert losses["samples"] == {"step": [1.0], "accumulate": [1.5]}
    assert len(losses["updates"]["step"]) == NUM_SEEDS


def test_only_named_pairs_and_those_with_the_reference_are_compared(study: dict[str, Any], tmp_path: Path) -> None:
    case = study["cases"]["digits"]
    case["runs"] |= {"direct": case["runs"]["step"]}
    study["contrasts"] = [{"arm": "accumulate", "against": "direct"}, {"arm": "accumulate", "against": "missing"}]
    found = {(one.arm, one.against) for one in contrasts(study, trajectories(tmp_path, study))}
    assert found == {("accumulate", "direct"), ("accumulate", "step"), ("direct", "step")}


def test_report_of_a_study_s_folder_is_its_page(
    study: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(tmp_path)]) == 0
    assert capsys.readouterr().out == f"{tmp_path}/report.html\n" and (tmp_path / "report" / "study.md").is_file()


def test_columns_that_the_study_names_stand_beside_the_loss(study: dict[str, Any], tmp_path: Path) -> None:
    write_study(tmp_path)
    text = (tmp_path / "report" / "study.md").read_text()
    assert "## Beside the loss" in text and "| digits | step | 168, n = 5 |" in text
