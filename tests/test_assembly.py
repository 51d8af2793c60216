"""What goes together and what is refused before anything is trained or written; the plan line."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from mbtrain import assembly as assembly_module
from mbtrain.assembly import Assembly, assemble
from mbtrain.config.check import check
from mbtrain.plan.refused import Refused
from tests.composing import composed
from tests.conftest import QUIET, rows


def assembled(*overrides: str) -> Assembly:
    config = composed([*QUIET, *overrides])
    check(config)
    return assemble(config, chosen={})


@pytest.mark.parametrize(
    ("overrides", "line"),
    [
        ([], "batch 32; 1,294 samples, 41 iterations per epoch, the last of 14; 410 in all"),
        (
            ["batch.size=256", "batch.micro_size=32"],
            "batch 256 = 8 micro-batches of 32; 1,294 samples, 6 iterations per epoch, the last of 14; 60 in all",
        ),
        (
            ["batch.size=256", "batch.micro_size=32", "batch_norm.group_size=32", "model=cnn"],
            "batch 256 = 8 micro-batches of 32, batch norm over 32; "
            "1,294 samples, 6 iterations per epoch, the last of 14; 60 in all",
        ),
        (
            ["batch.size=100", "batch.micro_size=40", "batch.drop_last=true"],
            "batch 100 = 3 micro-batches of 40, the last of 20; "
            "1,294 samples, 12 iterations per epoch, 94 left out; 120 in all",
        ),
        (["batch=full_batch"], "batch 1,294; 1,294 samples, 1 iteration per epoch; 10 in all"),
        (
            ["batch.size=5000"],
            "batch 1,294; 1,294 samples, 1 iteration per epoch; 10 in all "
            "(batch.size=5,000 is more than there is: every mini-batch is the whole set)",
        ),
        (
            ["model=cnn", "batch.size=64", "batch.micro_size=30", "batch_norm.group_size=8"],
            "batch 64 = 3 micro-batches of 24, the last of 16, batch norm over 8; "
            "1,294 samples, 21 iterations per epoch, the last of 14; 210 in all "
            "(batch.micro_size=30 rounded down to 24, whole groups of 8)",
        ),
        (
            ["batch_schedule=ramp", "batch.micro_size=16"],
            "batch 8, 16 from 1.25ep, 32 from 2.5ep (32 = 2 micro-batches of 16); "
            "1,294 samples, 162 iterations in the first epoch, 41 in the last; 612 in all",
        ),
        (
            ["batch_schedule=plateau"],
            "batch 32, up to 129 as results decide; 1,294 samples, "
            "41 iterations per epoch at first; how many in all is not known ahead",
        ),
        (
            ["batch_norm=ghost"],
            "batch 32; 1,294 samples, 41 iterations per epoch, the last of 14; 410 in all "
            "(no batch norm in use: batch_norm.group_size=32 changes nothing)",
        ),
    ],
    ids=str,
)
def test_plan_is_told_in_one_line(overrides: list[str], line: str) -> None:
    assert assembled(*overrides).plan_line == line


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["model=cnn", "batch.micro_size=8"], r"batch.micro_size=8 splits .* set batch_norm.group_size=8"),
        (["model=cnn", "batch.size=all", "batch.micro_size=8", "batch_norm.group_size=9"], "is larger than batch.mic"),
        (["batch.size=5000", "batch.drop_last=true"], "leaves no mini-batch of 1294 samples"),
        (["loss=mse"], "loss=MeanSquaredError: the targets are classes, not numbers: take loss=cross_entropy"),
        (["dataset=synthetic", "dataset.task=numbers"], "the targets are numbers, not classes: take loss=mse"),
        (["dataset=synthetic", "model=cnn"], "model=cnn with 2 blocks needs images"),
        (["+model.num_outputs=3"], "model.num_outputs=3: the data have 10 classes"),
        (["model.hiden=[3]"], "model.hiden"),
        (["+model.hiden=[3]"], "model.hiden=.*did you mean model.hidden"),
        (["+optimizer.nestrov=true"], "optimizer.nestrov=.*did you mean optimizer.nesterov"),
        (["optimizer.nesterov=true", "optimizer.momentum=0"], "optimizer=SGD: Nesterov momentum requires"),
        (["loss._target_=torch.nn.Linear", "+loss.in_features=64", "+loss.out_features=1"], "loss"),
        (["trainer.accelerator=gpu"], "there is no GPU"),
        (["trainer.precision=16-mixed", "trainer.accelerator=auto"], "needs a GPU"),
        (["model.weights=/nowhere"], "there is no such file"),
        (["trainer.extra={bogus: 1}"], "trainer.extra.*bogus"),
        (["+dataset.sise=3"], "dataset.sise"),
        (["lr_schedule.warmup=soon"], "soon"),
        (["lr_schedule=step", "lr_schedule.at=[half]"], "half"),
        (["ema=2"], "ema=2"),
    ],
    ids=str,
)
def test_what_does_not_go_together_is_refused_and_leaves_no_folder(
    train: Callable[..., Any], tmp_path: Path, overrides: list[str], message: str
) -> None:
    if torch.cuda.is_available() and any("gpu" in one or "16-mixed" in one for one in overrides):
        pytest.skip("there is a GPU")
    with pytest.raises(Refused, match=message):
        train(*overrides, f"run_dir={tmp_path}/a/b")
    assert not (tmp_path / "a").exists()


def test_batch_norm_on_one_value_a_channel_is_refused_with_its_cure() -> None:
    overrides = ["batch.size=17", "dataset.val_fraction=0", "trust=[tests]", "model=mlp"]
    overrides += ["model._target_=tests.test_assembly.Flat", "~model.hidden", "~model.dropout"]
    assert assembled(*overrides, "batch.size=32").plan.sizes == (32, 30)
    with pytest.raises(Refused, match="a mini-batch of 1: .* set batch.drop_last=true"):
        assembled(*overrides, "batch.size=1437")
    with pytest.raises(Refused, match="batch_norm.group_size=1: .*no variance"):
        assembled(*overrides, "batch_norm.group_size=1")
    assert assembled(*overrides, "batch.size=1437", "batch.drop_last=true").plan.sizes == (1437,)


class Flat(torch.nn.Module):
    """Batch norm on [n, channels]."""

    def __init__(self, num_outputs: int) -> None:
        super().__init__()
        self.layers = torch.nn.Sequential(
            torch.nn.Flatten(), torch.nn.Linear(64, 8), torch.nn.BatchNorm1d(8), torch.nn.Linear(8, num_outputs)
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Outputs [n, num_outputs]."""
        return self.layers(x)


def weighted(output: torch.Tensor, target: torch.Tensor, gamma: float) -> torch.Tensor:
    """A loss with an option."""
    return gamma * torch.nn.functional.cross_entropy(output, target, reduction="none")


def conf_with(folder: Path, name: str, text: str) -> Path:
    """A user's config folder with one choice."""
    file = folder / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)
    return folder


def test_loss_may_be_a_function_with_options(train: Callable[..., Any], tmp_path: Path) -> None:
    conf = conf_with(tmp_path / "conf", "loss/own.yaml", "_target_: tests.test_assembly.weighted\ngamma: 1.0\n")
    own = ["trust=[tests]", "loss=own", "duration=1it"]
    losses = [
        rows(train(*own, f"loss.gamma={gamma}", config_dir=conf).run_dir)[0]["train/loss"] for gamma in (1.0, 3.0)
    ]
    assert losses[1] == pytest.approx(3 * losses[0], rel=1e-6)
    with pytest.raises(Refused, match="loss.gama=3: weighted takes no gama"):
        train(*own, "+loss.gama=3", config_dir=conf)


@pytest.mark.parametrize("name", ["CrossEntropyLoss", "functional.cross_entropy"])
def test_torch_s_losses_are_built_without_their_mean(train: Callable[..., Any], tmp_path: Path, name: str) -> None:
    conf = conf_with(tmp_path / "conf", "loss/own.yaml", f"_target_: torch.nn.{name}\n")
    mine = train("loss=own", "duration=1it", config_dir=conf)
    assert rows(mine.run_dir)[0]["train/loss"] == rows(train("duration=1it").run_dir)[0]["train/loss"]


@pytest.mark.parametrize("optimizer", ["RMSprop", "Adagrad", "NAdam"])
def test_any_optimizer_by_target(train: Callable[..., Any], optimizer: str) -> None:
    bare = ["~optimizer.momentum", "~optimizer.nesterov"]
    train(f"optimizer._target_=torch.optim.{optimizer}", *bare, "optimizer.lr=0.001", "duration=3it")


@pytest.mark.parametrize("norm", ["batch", "ghost", "renorm", "group_norm", "layer_norm", "frozen", "none"])
def test_every_norm_trains(train: Callable[..., Any], norm: str) -> None:
    result = train("model=cnn", "model.channels=[4,8]", f"batch_norm={norm}", "duration=2ep", "batch.size=64")
    table = rows(result.run_dir)
    assert table[-1]["train/loss"] < table[0]["train/loss"]


@pytest.mark.parametrize("schedule", ["constant", "cosine", "linear", "step"])
def test_learning_rate_of_each_row_is_the_schedule_s(train: Callable[..., Any], schedule: str) -> None:
    table = rows(
        train(f"lr_schedule={schedule}", "optimizer.lr=0.05", "duration=4ep", "lr_schedule.warmup=1ep").run_dir
    )
    rates = [row["lr"] for row in table]
    assert rates[0] == pytest.approx(0.05 * 16 / 1294) and all(rate > 0 for rate in rates)
    assert max(rates) == pytest.approx(0.05, rel=0.03)
    if schedule == "step":
        assert rates[-1] == pytest.approx(0.05 * 0.01)


def test_regression_reports_its_scores(train: Callable[..., Any]) -> None:
    data = ["dataset=synthetic", "dataset.kind=quadratic", "loss=mse", "model.hidden=[]"]
    result = train(*data, "duration=5ep", "dataset.test_fraction=0.2")
    assert result["test/r2"] > 0.5
    assert {"train/loss", "train/mae"} <= set(rows(result.run_dir)[0])


def test_model_without_anything_to_train_is_refused_before_its_optimizer_is_made(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    frozen = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 10).requires_grad_(False))
    monkeypatch.setattr(assembly_module, "build_model", lambda *args, **kwargs: frozen)
    with pytest.raises(Refused, match="model=Mlp: has no parameter to train"):
        assemble(composed(QUIET), chosen={})
