"""Promises 2, 3 and 7 end to end, in float64: the split changes nothing, what is logged is what was done."""

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from mbtrain.assembly import assemble
from tests.composing import composed
from tests.conftest import QUIET, final_weights, relative_difference, rows

DOUBLE = [
    "optimizer.lr=0.05",
    "optimizer.nesterov=false",
    "trainer.precision=64-true",
    "dataset.val_fraction=0",
    "validate=never",
    "checkpoint.every=null",
]
CNN = ["model=cnn", "model.channels=[4,8]", "duration=50it", "optimizer.lr=0.02"]


def check_same(a: Any, b: Any, bound: float = 1e-9) -> None:
    mine, theirs = final_weights(a.run_dir), final_weights(b.run_dir)
    for name in theirs:
        assert relative_difference(mine[name].double(), theirs[name].double()) <= bound, name
    for one, other in zip(rows(a.run_dir), rows(b.run_dir), strict=True):
        assert one["train/loss"] == pytest.approx(other["train/loss"], rel=1e-9)
        assert one["train/accuracy"] == pytest.approx(other["train/accuracy"], rel=1e-9)


def by_hand(overrides: list[str], iterations: int) -> tuple[dict[str, torch.Tensor], list[float]]:
    """The loop one writes by hand: one big batch, torch's own mean loss and optimizer."""
    parts = assemble(composed([*QUIET, *DOUBLE, *overrides]), chosen={})
    model, optimizer = parts.model.train(), torch.optim.SGD(parts.model.parameters(), lr=0.05, momentum=0.9)
    losses = []
    for index in range(iterations):
        one = parts.plan.iteration(index)
        indices = torch.from_numpy(parts.order(one.epoch)[one.start : one.start + one.size])
        x, y = parts.data.train.gather(indices)
        loss = F.cross_entropy(model(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    return model.state_dict(), losses


@pytest.mark.parametrize("batch", ["batch.size=1", "batch.size=64", "batch.size=2", "batch.size=100", "batch.size=all"])
def test_run_equals_the_loop_written_by_hand(train: Callable[..., Any], batch: str) -> None:
    iterations = 50
    result = train(*DOUBLE, batch, f"duration={iterations}it", "batch.micro_size=24")
    weights, losses = by_hand([batch], iterations)
    for name, value in final_weights(result.run_dir).items():
        assert relative_difference(value, weights[name]) <= 1e-9, name
    assert [row["train/loss"] for row in rows(result.run_dir)] == pytest.approx(losses, rel=1e-9)


SPLITS = [
    "batch.micro_size=1",
    "batch.micro_size=7",
    "batch.micro_size=32",
    "batch.micro_size=99",
    "batch.accumulate=3",
]


@pytest.mark.parametrize("split", SPLITS)
def test_split_changes_nothing(train: Callable[..., Any], train_once: Callable[..., Any], split: str) -> None:
    common = [*DOUBLE, "batch.size=60", "duration=50it"]
    check_same(train(*common, split), train_once(*common))


@pytest.mark.parametrize(
    "loss",
    [
        "loss.class_weights=[1,2,3,4,5,6,7,8,9,10]",
        "loss.label_smoothing=0.1",
        "loss.ignore_index=3",
        "loss.class_weights=[0,1,1,1,1,1,1,1,1,5]",
    ],
)
@pytest.mark.parametrize("split", ["batch.micro_size=7", "batch.accumulate=4"])
def test_split_changes_nothing_with_weights(
    train: Callable[..., Any], train_once: Callable[..., Any], loss: str, split: str
) -> None:
    common = [*DOUBLE, "batch.size=30", "duration=50it", loss, "optimizer.clip_norm=1"]
    check_same(train(*common, split), train_once(*common))


@pytest.mark.parametrize("group_size", [8, 16, 5])
@pytest.mark.parametrize("micro_size", [16, 20, 50])
def test_bn_groups_do_not_depend_on_the_split(
    train: Callable[..., Any], train_once: Callable[..., Any], group_size: int, micro_size: int
) -> None:
    common = [*DOUBLE, *CNN, "batch.size=50", f"batch_norm.group_size={group_size}"]
    check_same(train(*common, f"batch.micro_size={micro_size}"), train_once(*common))


def test_augmentation_does_not_depend_on_the_split(train: Callable[..., Any]) -> None:
    common = [*DOUBLE, *CNN, "batch.size=50", "batch_norm.group_size=8", "dataset.augment=[flip,crop]"]
    check_same(train(*common, "batch.micro_size=16"), train(*common))


def test_accumulation_with_batch_norm_as_everybody_does_it_is_bn_groups_of_the_micro_size(
    train: Callable[..., Any],
) -> None:
    """Per micro-batch forward and backward of torch's own layers, against our groups in one pass."""
    overrides = [*CNN, "batch.size=48", "batch_norm.group_size=12", "sampler=sequential", "optimizer.lr=0.05"]
    result = train(*DOUBLE, *overrides)
    parts = assemble(composed([*QUIET, *DOUBLE, *overrides, "batch_norm.group_size=null"]), chosen={})
    model = parts.model.train()
    assert any(isinstance(one, nn.BatchNorm2d | nn.modules.batchnorm._BatchNorm) for one in model.modules())
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    for index in range(50):
        one = parts.plan.iteration(index)
        x, y = parts.data.train.slice(one.start, one.start + one.size)
        optimizer.zero_grad()
        sizes = [12] * (one.size // 12) + ([one.size % 12] if one.size % 12 else [])
        for part, target in zip(x.split(sizes), y.split(sizes), strict=True):
            (F.cross_entropy(model(part), target, reduction="sum") / one.size).backward()
        optimizer.step()
    for name, value in final_weights(result.run_dir).items():
        assert relative_difference(value.double(), model.state_dict()[name].double()) <= 1e-9, name


@pytest.mark.parametrize("change", ["batch.micro_size=8", "dataset.workers=0", "trainer.loop=stock", "model=cnn"])
def test_samples_depend_on_seed_order_and_batch_alone(
    train: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    seen: list[list[float]] = []
    from mbtrain.training.module import MiniBatchModule

    step = MiniBatchModule.training_step

    def spy(self: Any, mini_batch: Any, batch_idx: int) -> None:
        state = torch.get_rng_state()
        parts = [micro.inputs.flatten(1).sum(1) for micro in mini_batch.micro_batches()]
        seen[-1] += sorted(torch.cat(parts).tolist())
        torch.set_rng_state(state)
        step(self, mini_batch, batch_idx)

    monkeypatch.setattr(MiniBatchModule, "training_step", spy)
    for override in ([], [change]):
        seen.append([])
        extra = ["batch_norm.group_size=8"] if change == "model=cnn" else []
        train("duration=60it", *override, *extra)
    assert seen[0] == seen[1]


def test_epoch_row_is_the_sample_weighted_mean_of_its_iterations(train: Callable[..., Any]) -> None:
    result = train(*DOUBLE, "duration=2ep", "batch.size=100")
    iterations = [row for row in rows(result.run_dir) if row["epoch"] == 1]
    epoch = rows(result.run_dir, "epochs")[1]
    samples = sum(row["batch_size"] for row in iterations)
    for key in ("train/loss", "train/accuracy"):
        mean = math.fsum(row[key] * row["batch_size"] for row in iterations) / samples
        assert epoch[key] == pytest.approx(mean, rel=1e-12)


def test_logged_loss_is_that_of_the_weights_before_the_update(train: Callable[..., Any]) -> None:
    """The first row's loss and accuracy are those of the first mini-batch at the first weights, in full float64."""
    result = train(*DOUBLE, "duration=1it", "batch.size=all", "optimizer.lr=0")
    parts = assemble(composed([*QUIET, *DOUBLE]), chosen={})
    x, y = parts.data.train.slice(0, len(parts.data.train))
    output = parts.model(x)
    row = rows(result.run_dir)[0]
    assert row["train/loss"] == pytest.approx(float(F.cross_entropy(output, y).detach()), rel=1e-13)
    assert row["train/accuracy"] == float((output.argmax(1) == y).double().mean())
