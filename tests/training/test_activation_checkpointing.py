"""trainer.activation_checkpointing: runs end in the same bits, cut or whole."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mbtrain.plan.refused import Refused
from tests.conftest import rows, without_times
from tests.training.test_resume import check_same_run, train_with_kills

ON = "trainer.activation_checkpointing=true"
CNN = ["model=cnn", "model.channels=[4,8]", "model.dropout=0.3", "batch.size=100", "duration=2ep"]


@pytest.mark.parametrize(
    "extra",
    [
        ["batch_norm.group_size=16", "batch.micro_size=48", "dataset.augment=[flip]"],
        ["batch_norm=renorm", "batch_norm.group_size=16", "nonfinite=skip", "ema=1ep"],
        [
            "model=resnet",
            "model.depth=8",
            "model.width=4",
        ],
        ["trainer.precision=bf16-mixed", "batch_norm.recalibrate=before_eval"],
    ],
    ids=str,
)
def test_a_run_ends_in_the_same_bits(train: Callable[..., Any], extra: list[str]) -> None:
    model = [one for one in CNN if "resnet" not in str(extra) or "model" not in one]
    plain, recomputed = (train(*model, *[e for e in extra if e[0] != "~"], *on) for on in ([], [ON]))
    assert plain["weights_sha256"] == recomputed["weights_sha256"]
    assert without_times(rows(plain.run_dir)) == without_times(rows(recomputed.run_dir))


def test_resume_is_bit_exact(train: Callable[..., Any], tmp_path: Path) -> None:
    overrides = [*CNN, ON, "checkpoint.every=3it", "batch_norm=renorm", "batch_norm.group_size=16"]
    check_same_run(train_with_kills(train, tmp_path / "cut", [2, 15], overrides), train(*overrides))


def test_a_model_without_blocks_is_refused_with_its_cure(train: Callable[..., Any]) -> None:
    with pytest.raises(Refused, match="activation_checkpointing=true: model=Linear has no blocks .* nn.Sequential"):
        train(
            "model._target_=torch.nn.Linear", "~model.hidden", "~model.dropout",
            "+model.in_features=8", "+model.out_features=10", ON,
        )  # fmt: skip
