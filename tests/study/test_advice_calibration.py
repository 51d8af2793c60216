"""What a calibration is made of: its target, its batch sizes, its study."""

from pathlib import Path
from typing import Any

import orjson
import pytest

from mbtrain.plan.refused import Refused
from mbtrain.study.advice_calibration import Search, calibrated_sizes, design_of, parsed, target_of
from mbtrain.study.design import Design, Target
from tests.composing import composed


def run(folder: Path, losses: list[float | None]) -> Path:
    rows: list[dict[str, Any]] = [{"samples_seen": 100 * (at + 1), "val/loss": loss} for at, loss in enumerate(losses)]
    (folder / "epochs.jsonl").write_bytes(b"".join(orjson.dumps(row) + b"\n" for row in rows))
    return folder


def design(*overrides: str) -> Design:
    values = composed([*overrides, "batch.size=64"])
    target, search = Target("val/loss", 0.4), Search(num_tuning_seeds=2, num_seeds=6)
    return design_of([16, 64, 256], target, 3000, values=values, noise_scale=25.0, search=search)


def test_target_of_its_own_is_reached_by_the_run_itself(tmp_path: Path) -> None:
    target, samples, sentence = target_of(None, run(tmp_path, [0.5, 0.41237, None]))
    assert (target, samples) == (Target("val/loss", 0.413), 200)
    assert "val/loss<=0.413 is what your own config reaches after 200 samples" in sentence


def test_target_that_is_wanted_is_looked_for_on_the_way(tmp_path: Path) -> None:
    folder = run(tmp_path, [0.5, 0.38, 0.3])
    assert target_of("val/loss<=0.4", folder)[:2] == (Target("val/loss", 0.4), 200)
    assert "has not reached the target val/loss<=0.2 after 300" in target_of("val/loss<0.2", folder)[2]


@pytest.mark.parametrize("text", ["val/loss", "train/loss<=1", "val/loss<=low"])
def test_target_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(Refused, match="must read like val/loss<=0.4"):
        parsed(text)


def test_default_sizes_are_the_ends_and_two_between() -> None:
    assert calibrated_sizes([16, 32, 64, 128, 256, 512, 1024], None) == [16, 64, 256, 1024]
    assert calibrated_sizes([16, 32], None) == [16, 32]
    assert calibrated_sizes([16, 32, 64], [64, 16]) == [16, 64]


def test_arms_change_the_batch_alone_and_the_grid_is_around_the_own_rate() -> None:
    found = design("optimizer.lr=0.2")
    assert found.arms["b16"] == ("batch.size=16", "batch.micro_size=null", "batch.accumulate=null")
    assert (found.overrides, found.cases[0].overrides) == ((), ())
    assert (found.reference, found.cases[0].lr) == ("b64", 0.2)


def test_runs_under_a_falling_rate_begin_at_the_own_length() -> None:
    constant, falling = design(), design("lr_schedule=linear")
    assert (constant.cases[0].length, falling.cases[0].length) == (6000, 3000)
    assert constant.cases[0].updates == falling.cases[0].updates == 60
