"""The residual network: its sizes as published, its start, and norms that any conversion may replace."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from mbtrain.models.resnet import Block, ResNet
from mbtrain.norm.convert import convert
from mbtrain.norm.groups import BnGroups, GroupBatchNorm
from mbtrain.plan.refused import Refused
from tests.conftest import rows
from tests.data.cifar_files import write_folder


def tiny(**options: Any) -> ResNet:
    torch.manual_seed(0)
    return ResNet(**{"input_shape": (3, 32, 32), "num_outputs": 10, "depth": 8, "width": 4} | options)


@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 32, 32), (1, 8, 8), (2, 9, 7)])
def test_images_of_any_size_give_an_output_a_class(shape: tuple[int, ...]) -> None:
    assert tiny(input_shape=shape)(torch.randn(2, *shape)).shape == (2, 10)


@pytest.mark.parametrize(("depth", "millions"), [(20, 0.27), (32, 0.46), (44, 0.66), (56, 0.85), (110, 1.7)], ids=str)
def test_it_has_as_many_weights_as_the_paper_s(depth: int, millions: float) -> None:
    """arXiv 1512.03385, table 6."""
    model = ResNet(input_shape=(3, 32, 32), num_outputs=10, depth=depth)
    assert round(sum(one.numel() for one in model.parameters()) / 1e6, len(str(millions)) - 2) == millions


@pytest.mark.parametrize("depth", [8, 20])
def test_it_has_as_many_weighted_layers_as_its_depth(depth: int) -> None:
    kinds = [type(one) for one in tiny(depth=depth).modules() if isinstance(one, nn.Conv2d | nn.Linear)]
    assert len(kinds) == depth


def test_the_image_is_halved_twice() -> None:
    sizes = []
    model = tiny()
    for one in model.modules():
        if isinstance(one, Block):
            one.register_forward_hook(lambda layer, given, output: sizes.append(tuple(output.shape[1:])))
    model(torch.randn(2, 3, 32, 32))
    assert sizes == [(4, 32, 32), (8, 16, 16), (16, 8, 8)]


@pytest.mark.parametrize("stride", [1, 2])
def test_a_block_starts_as_its_shortcut(stride: int) -> None:
    """relu(x) where the shape stays; else every other pixel between channels of zeros."""
    block = [one for one in tiny().modules() if isinstance(one, Block)][stride - 1]
    x = torch.randn(2, 4, 8, 8)
    out = block(x).detach()
    kept = out if stride == 1 else out[:, 2:6]
    assert torch.equal(kept, x[:, :, ::stride, ::stride].relu())
    assert float(out.abs().sum()) == pytest.approx(float(kept.abs().sum()))


@pytest.mark.parametrize("is_zero", [True, False])
def test_every_weight_gets_a_gradient_once_the_last_scales_are_not_0(is_zero: bool) -> None:
    model = tiny(zero_init_last=is_zero)
    nn.functional.cross_entropy(model(torch.randn(4, 3, 32, 32)), torch.arange(4)).backward()
    still = {name for name, one in model.named_parameters() if one.grad is None or not bool(one.grad.any())}
    inner = {name for name, _ in model.named_parameters() if ".conv_" in name or ".norm_1." in name}
    assert still == (inner if is_zero else set())


@pytest.mark.parametrize("kind", ["batch", "group_norm", "layer_norm", "frozen"])
def test_every_norm_is_converted_and_keeps_the_scale_it_starts_from(kind: str) -> None:
    model = convert(tiny(), kind, BnGroups())
    assert not any(type(one) is nn.BatchNorm2d for one in model.modules())
    norms = [one for one in model.modules() if isinstance(one, nn.GroupNorm | GroupBatchNorm)]
    assert len(norms) == 7 and all(
        bool((one.norm_2.weight == 0).all()) for one in model.modules() if type(one) is Block
    )


@pytest.mark.parametrize("norm", ["batch", "ghost", "group_norm", "none"])
def test_one_epoch_through_the_command(train: Callable[..., Any], tmp_path: Path, norm: str) -> None:
    write_folder(tmp_path, size=12)
    overrides = [f"data_root={tmp_path}", "dataset=cifar10", "dataset.augment=[flip,crop]", "model=resnet"]
    overrides += ["model.depth=8", "model.width=4", f"batch_norm={norm}", "batch.size=20", "optimizer.lr=0.05"]
    result = train(*overrides, "duration=2ep")
    table = rows(result.run_dir)
    assert [row["batch_size"] for row in table] == [20, 20, 14] * 2 and result["test/loss"] > 0


def test_splitting_the_mini_batch_at_its_groups_changes_nothing(train: Callable[..., Any], tmp_path: Path) -> None:
    write_folder(tmp_path, size=12)
    overrides = [f"data_root={tmp_path}", "dataset=cifar10", "model=resnet", "model.depth=8", "model.width=4"]
    overrides += ["trainer.precision=64-true", "batch.size=20", "batch_norm.group_size=5", "duration=6it"]
    losses = [
        [row["train/loss"] for row in rows(train(*overrides, f"batch.micro_size={size}").run_dir)] for size in (20, 5)
    ]
    assert losses[0] == pytest.approx(losses[1], rel=1e-10)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"input_shape": (64,)}, "model=resnet: needs images"),
        ({"depth": 18}, "model.depth=18: must be 6 n"),
        ({"depth": 2}, "model.depth=2: must be 6 n"),
    ],
)
def test_what_does_not_fit_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(Refused, match=message):
        tiny(**options)
