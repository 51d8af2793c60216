"""Validation's consequences: best weights, targets, patience."""

import json
from collections.abc import Callable
from typing import Any

import pytest
import torch

import mbtrain
from mbtrain.plan.refused import Refused
from mbtrain.training.metrics import ClassScores
from mbtrain.training.validation import Validation, parse_target
from tests.conftest import rows


def validation(**options: Any) -> Validation:
    return Validation(ClassScores(), **options)


def test_best_follows_the_score_s_direction() -> None:
    for key, values, places in (("val/loss", [3, 1, 2], [1, 1, 0]), ("val/accuracy", [0.3, 0.1, 0.4], [1, 0, 1])):
        judge = validation(best=key)
        assert [judge.judge({key: value}, at) for at, value in enumerate(values, 1)] == [bool(p) for p in places]
    assert judge.best == {"iteration": 3, "val/accuracy": 0.4}


def test_nan_is_never_the_best() -> None:
    judge = validation(best="val/loss")
    assert [judge.judge({"val/loss": value}, 1) for value in (float("nan"), 2.0, float("nan"))] == [False, True, False]


def test_patience_counts_validations_without_a_better_one() -> None:
    judge = validation(best="val/loss", patience=2)
    stops = []
    for value in (3.0, 2.0, 2.5, 2.0, 1.0):
        judge.judge({"val/loss": value}, 1)
        stops.append(judge.should_stop)
    assert stops == [False, False, False, True, True]


@pytest.mark.parametrize(
    ("text", "value", "holds"),
    [("val/loss<1.6", 1.5, True), ("val/loss<1.6", 1.6, False), ("val/accuracy >= 9e-1", 0.9, True)],
)
def test_target_is_read(text: str, value: float, holds: bool) -> None:
    assert parse_target(text)[1](value) is holds


@pytest.mark.parametrize("text", ["val/loss", "loss<1", "val/loss<one", "val/loss=1", ""])
def test_bad_target_is_refused(text: str) -> None:
    with pytest.raises(Refused, match="validate.stop_at="):
        parse_target(text)


def test_score_that_is_not_measured_is_refused() -> None:
    with pytest.raises(Refused, match="validate.best=val/f1: not measured, choose from val/loss"):
        validation(best="val/f1").judge({"val/loss": 1.0}, 1)


def test_run_stops_at_its_target_and_stays_stopped(train: Callable[..., Any]) -> None:
    overrides = ["duration=20ep", 'validate.stop_at="val/accuracy>0.9"', "validate.every=10it"]
    result = train(*overrides)
    assert result["iterations"] < 20 * 41 and result["val/accuracy"] > 0.9
    scores = [row["val/accuracy"] for row in rows(result.run_dir, "epochs")]
    assert scores[-1] > 0.9 and all(score <= 0.9 for score in scores[:-1])


def test_best_weights_are_kept_and_tested(train: Callable[..., Any]) -> None:
    result = train("duration=8ep", "optimizer.lr=0.5", "validate.best=val/loss", "seed=3")
    table = {row["iteration"]: row["val/loss"] for row in rows(result.run_dir, "epochs")}
    assert result["best/iteration"] == min(table, key=table.__getitem__)
    assert result["best/val/loss"] == min(table.values())
    kept = torch.load(result.run_dir / "checkpoints" / "best.ckpt", weights_only=True)
    assert set(kept["weights"]) == set(mbtrain.load(result.run_dir).model.state_dict())
    assert "best/test/accuracy" in result.values


def test_validation_uses_averaged_weights(train: Callable[..., Any]) -> None:
    """A half-life of many runs leaves the average near the first weights: validation must be about as bad as then."""
    result = train("duration=2ep", "ema=1000ep")
    assert result["val/loss"] > 2 and rows(result.run_dir, "epochs")[-1]["val/loss"] == result["val/loss"]
    assert rows(result.run_dir)[-1]["train/loss"] < 1


def test_run_without_validation_or_test_set_has_none_in_its_result(train: Callable[..., Any]) -> None:
    result = train("duration=1ep", "dataset.val_fraction=0", "dataset.test_fraction=null")
    assert not any(key.startswith(("val/", "test/")) for key in result.values)
    assert json.loads((result.run_dir / "result.json").read_text())["iterations"] == 57
