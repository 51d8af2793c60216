"""A study's page from runs whose losses are known."""

from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest

from mbtrain.analysis.budgets import Trajectory, losses_by_budget, trajectory
from mbtrain.analysis.study import contrasts, write_study

# loss = base / (samples / 1000), plus a seed's own part: known at every budget.
BASES = {"step": 1.0, "accumulate": 1.5}
SIZES = {"step": 32, "accumulate": 256}
NUM_SEEDS = 5


def write_run(folder: Path, base: float, seed: int, *, samples: list[int], is_done: bool = True) -> None:
    folder.mkdir(parents=True)
    losses = [base / (count / 1000) + 0.001 * seed for count in samples]
    rows = [
        {"iteration": i, "samples_seen": n, "val/loss": loss}
        for i, (n, loss) in enumerate(zip(samples, losses, strict=True), 1)
    ]
    rows.insert(1, {"iteration": 1, "samples_seen": samples[0] + 1, "train/loss": 9.0})
    (folder / "epochs.jsonl").write_bytes(b"".join(orjson.dumps(row) + b"\n" for row in rows))
    if is_done:
        (folder / "result.json").write_bytes(orjson.dumps({"val/loss": losses[-1]}))


@pytest.fixture
def study(tmp_path: Path) -> dict[str, Any]:
    runs = {arm: [f"run/{arm}{seed}" for seed in range(NUM_SEEDS)] for arm in BASES}
    for arm, folders in runs.items():
        ends = [1792, 3584, 5376] if arm == "step" else [1792, 3584, 7168]
        for seed, folder in enumerate(folders):
            write_run(tmp_path / folder, BASES[arm], seed, samples=ends)
    case = {
        "overrides": ["model=<b>"],
        "budgets": {"samples": 3584, "updates": 7},
        "iterations": {"step": 168, "accumulate": 28},
        "seconds_per_iteration": {"step": [0.001] * 3, "accumulate": [0.006] * 3},
        "is_steady": True,
        "rates": {"step": 0.1, "accumulate": 0.2},
        "is_inside": {"step": True, "accumulate": False},
        "tuning": {"step": [[0.1, 0.5], [0.2, None]], "accumulate": [[0.2, 0.4]]},
        "runs": runs,
    }
    content = {
        "question": "Does it?", "name": "accumulation", "scale": "demo", "command": "mbtrain study=x", "git": None,
        "versions": {"torch": "2"}, "cores": 2, "margin": 0.01, "batch_sizes": SIZES, "cases": {"digits": case},
        "primary": {"arm": "accumulate", "against": "step", "budget": "time"},
    }  # fmt: skip
    (tmp_path / "study.json").write_bytes(orjson.dumps(content))
    return content


def test_budgets_are_read_where_they_stand_on_the_trajectory(study: dict[str, Any], tmp_path: Path) -> None:
    losses = losses_by_budget(tmp_path, study["cases"]["digits"], SIZES)
    seeds = 0.001 * np.arange(NUM_SEEDS)
    assert losses["samples"]["step"] == pytest.approx(1000 / 3584 + seeds)
    assert losses["samples"]["accumulate"] == pytest.approx(1500 / 3584 + seeds)
    # 7 updates: 224 samples of `step`, before its first validation; 1,792 of `accumulate`.
    assert np.isnan(losses["updates"]["step"]).all()
    assert losses["updates"]["accumulate"] == pytest.approx(1500 / 1792 + seeds)
    assert losses["time"]["step"] == pytest.approx(1000 / 5376 + seeds)
    assert losses["time"]["accumulate"] == pytest.approx(1500 / 7168 + seeds)


def test_run_that_did_not_finish_has_no_loss_anywhere(tmp_path: Path) -> None:
    write_run(tmp_path / "run", 1.0, 0, samples=[100, 200], is_done=False)
    found = trajectory(tmp_path / "run")
    assert np.isnan(found.final) and np.isnan(found.at(150))


def test_loss_between_two_validations_lies_on_the_line_and_nothing_is_said_beyond_them() -> None:
    found = Trajectory((100, 200), (1.0, 0.5), 0.4)
    assert found.at(125) == 0.875 and np.isnan(found.at(99)) and np.isnan(found.at(201))


def test_primary_contrast_is_the_one_that_was_fixed(study: dict[str, Any], tmp_path: Path) -> None:
    found = list(contrasts(tmp_path, study))
    (primary,) = [one for one in found if one.is_primary]
    assert (primary.arm, primary.against, primary.budget) == ("accumulate", "step", "time")
    assert primary.decision.answer == "hurts" and len(found) == 3
    assert primary.decision.difference.estimate == pytest.approx(1500 / 7168 - 1000 / 5376)


def test_page_answers_first_and_shows_what_was_tuned_and_timed(study: dict[str, Any], tmp_path: Path) -> None:
    page, answers = write_study(tmp_path)
    (answer,) = answers
    assert answer.startswith("digits: accumulate (batch 256) hurts against step (batch 32) at equal time")
    text = page.read_text()
    assert answer.split(":")[0] in text and "AT THE EDGE of the grid" in text and "diverged" in text
    assert "<b>" not in text.split("<body", 1)[1].replace("&lt;b&gt;", "")
    assert (tmp_path / "report" / "study.md").is_file()
    assert len(list((tmp_path / "report" / "figures").glob("*.png"))) == 1
