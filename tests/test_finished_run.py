"""`mbtrain.load`: the trained model from its folder alone, and no code that was not trusted for it."""

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

import mbtrain
from mbtrain.assembly import assemble
from mbtrain.models.mlp import Mlp
from tests.composing import composed
from tests.conftest import QUIET


@pytest.mark.parametrize("extra", [[], ["ema=1ep"], ["model=cnn", "batch_norm=ghost"], ["trainer.precision=64-true"]])
def test_loaded_model_gives_the_run_s_test_accuracy_on_raw_inputs(train: Callable[..., Any], extra: list[str]) -> None:
    result = train("duration=2ep", *extra)
    model = mbtrain.load(result.run_dir)
    test = assemble(composed([*QUIET, *extra, "dataset.normalize=false"]), chosen={}).data.test
    x, y = test.slice(0, len(test))
    accuracy = float((model(x).argmax(1) == y).double().mean())
    assert not model.training and accuracy == pytest.approx(result["test/accuracy"], abs=1e-12)


def test_loading_leaves_the_random_numbers_alone(train: Callable[..., Any]) -> None:
    result = train("duration=1it")
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    mbtrain.load(result.run_dir)
    assert torch.equal(torch.rand(3), expected)


def test_saved_config_cannot_bring_its_own_trust(train: Callable[..., Any], tmp_path: Path) -> None:
    result = train("duration=1it")
    file = result.run_dir / "config.yaml"
    config = yaml.safe_load(file.read_text())
    file.write_text(yaml.safe_dump(config | {"trust": ["os"], "model": {"_target_": "os.getcwd", "weights": None}}))
    with pytest.raises(mbtrain.Refused, match="os is not trusted"):
        mbtrain.load(result.run_dir)


def test_training_starts_from_given_weights(train: Callable[..., Any]) -> None:
    first = train("duration=3ep")
    again = train("duration=1it", "optimizer.lr=0", f"model.weights={first.run_dir}")
    assert again["weights_sha256"] == first["weights_sha256"]


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("model.hidden=[7]", "model.weights=.* do not fit the model"),
        ("model.weights=/nowhere", "there is no such file"),
    ],
)
def test_weights_that_do_not_fit_are_refused(train: Callable[..., Any], override: str, message: str) -> None:
    first = train("duration=1it")
    with pytest.raises(mbtrain.Refused, match=message):
        train("duration=1it", f"model.weights={first.run_dir}", override)


def test_unfinished_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(mbtrain.Refused, match="has the run finished"):
        mbtrain.load(tmp_path)


def test_run_of_a_model_that_is_another_now_is_refused_in_one_line(
    train: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    run_dir = train("duration=2it").run_dir
    original = Mlp.__init__

    @functools.wraps(original)
    def other(self: Mlp, **options: Any) -> None:
        original(self, **options | {"hidden": [7]})

    monkeypatch.setattr(Mlp, "__init__", other)
    with pytest.raises(mbtrain.Refused, match=r"its weights do not fit the model: .*layers\.0\.weight") as refused:
        mbtrain.load(run_dir)
    assert "\n" not in str(refused.value)
