"""Every choice of every group, and every value with a mechanism of its own, trains an epoch from the command line."""

from pathlib import Path

import orjson
import pytest

from mbtrain.__main__ import exit_code
from mbtrain.config.driver import conf_dir
from tests.config.test_compose import NEEDS
from tests.conftest import QUIET

GROUPS = ("sampler", "batch", "batch_schedule", "scaling", "batch_norm", "model", "loss", "optimizer", "lr_schedule")
GROUPS += ("validate", "probe")
SHORT = ["dataset=digits", "dataset.train_size=200", "duration=1ep", "batch.size=32"]
TEXT = ["dataset=text_lines", "model=gpt", "model.width=16", "model.depth=1", "model.heads=2"]
CNN = ["model=cnn", "model.channels=[2,4]"]
# What a choice takes besides on so small a set.
BESIDES = NEEDS | {
    "sampler=length_bucketed": TEXT,
    "model=gpt": TEXT,
    "model=cnn": CNN,
    "model=resnet": ["model.depth=8", "model.width=2"],
    "model=whitened_cnn": ["model.widths=[2,4]"],
    "loss=mse": ["dataset=synthetic", "dataset.task=numbers"],
    "loss=mae": ["dataset=synthetic", "dataset.task=numbers"],
    "probe=sharpness": ["probe.sharpness.num_samples=64", "probe.sharpness.num_products=4"],
    "probe=full": ["probe.sharpness.num_samples=64", "probe.sharpness.num_products=4"],
}
VALUES = [
    ["batch.micro_size=auto"],
    ["batch.micro_size=fastest"],
    [*TEXT, "batch.max_tokens=100", "batch.size=all"],
    [*CNN, "batch_norm.half_life=100sp"],
    [*CNN, "batch_norm.recalibrate=end"],
    [*CNN, "batch_norm.recalibrate=before_eval"],
    [*CNN, "batch_norm.example_weight=0.1"],
    [*CNN, "trainer.activation_checkpointing=true"],
    [*CNN, "trainer.channels_last=true"],
    [*CNN, "scaling=linear", "scaling.reference_size=16", "scaling.batch_norm_momentum=true"],
    ["scaling=linear", "scaling.reference_size=16", "scaling.weight_decay=true"],
]


def cases() -> list[list[str]]:
    choices = [f"{group}={file.stem}" for group in GROUPS for file in sorted((conf_dir() / group).glob("*.yaml"))]
    norms = [one for one in choices if one.startswith("batch_norm=")]
    return [[one, *(CNN if one in norms else []), *BESIDES.get(one, [])] for one in choices] + VALUES


@pytest.fixture
def text(tmp_path: Path) -> str:
    """The override that names a small text of lines."""
    file = tmp_path / "lines.txt"
    file.write_text("\n".join(["one", "a longer line", "two", "and three"] * 15))
    return f"dataset.path={file}"


@pytest.mark.slow
@pytest.mark.parametrize("overrides", cases(), ids=lambda one: " ".join(one[:3]))
def test_trains_an_epoch(overrides: list[str], tmp_path: Path, text: str, capsys: pytest.CaptureFixture[str]) -> None:
    own = [one for one in overrides if not one.startswith("batch=")]
    short = [one for one in SHORT if one.split("=")[0] not in {given.split("=")[0] for given in own}]
    if overrides[0].startswith("batch="):
        short.remove("batch.size=32")
    if "dataset=text_lines" in overrides:
        short = [text, *(one for one in short if not one.startswith("dataset"))]
    code = exit_code([*QUIET, *short, *overrides, f"run_dir={tmp_path}/run"])
    assert code == 0, capsys.readouterr().err
    result = orjson.loads((tmp_path / "run" / "result.json").read_bytes())
    assert result["status"] == "done" and result["epochs"] == 1 and result["iterations"] >= 1
