"""Batch renorm against its formula, against batch norm and against its own evaluation."""

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from mbtrain.norm.convert import convert
from mbtrain.norm.groups import BnGroups
from mbtrain.norm.renorm import BatchRenorm
from mbtrain.plan.batch import interleaved
from tests.conftest import rows
from tests.norm.test_groups import GROUPS, layer_of, samples
from tests.training.test_exactness import CNN, DOUBLE, check_same


def renorm_of(layer: nn.Module, r_max: float, d_max: float) -> tuple[BatchRenorm, BnGroups]:
    groups = BnGroups(limits=lambda samples_seen: (r_max, d_max))
    ours = convert(layer, "renorm", groups)
    assert isinstance(ours, BatchRenorm)
    ours.running_mean.normal_(generator=torch.Generator().manual_seed(3))  # pyright: ignore
    ours.running_var.uniform_(0.3, 3, generator=torch.Generator().manual_seed(4))  # pyright: ignore
    return ours, groups


def by_formula(layer: BatchRenorm, x: Tensor, mean: Tensor, var: Tensor, r_max: float, d_max: float) -> Tensor:
    """Algorithm 1 of arXiv 1702.03275 on one group, with the running statistics given."""
    shape = [1, -1] + [1] * (x.dim() - 2)
    dims = [0, *range(2, x.dim())]
    batch_mean, batch_std = x.mean(dims), (x.var(dims, correction=0) + layer.eps).sqrt()
    std = (var + layer.eps).sqrt()
    r = (batch_std / std).clamp(1 / r_max, r_max).detach()
    d = ((batch_mean - mean) / std).clamp(-d_max, d_max).detach()
    normal = (x - batch_mean.view(shape)) / batch_std.view(shape) * r.view(shape) + d.view(shape)
    return normal if layer.weight is None else normal * layer.weight.view(shape) + layer.bias.view(shape)


def outputs(layer: BatchRenorm, groups: BnGroups, x: Tensor, sizes: tuple[int, ...]) -> Tensor:
    """Our layer's, in the samples' own order."""
    order = interleaved(sizes) or list(range(sum(sizes)))
    groups.sizes = sizes
    return layer(x[order])[torch.tensor(order).argsort()]


@pytest.mark.parametrize("affine", [True, False])
@pytest.mark.parametrize("dims", [0, 2])
@pytest.mark.parametrize("sizes", [*GROUPS, (2,)], ids=str)
@pytest.mark.parametrize(("r_max", "d_max"), [(1.0, 0.0), (1.3, 0.4), (3.0, 5.0)])
def test_values_and_gradients_are_those_of_the_formula(
    affine: bool, dims: int, sizes: tuple[int, ...], r_max: float, d_max: float
) -> None:
    layer, groups = renorm_of(layer_of(dims, affine=affine), r_max, d_max)
    mean, var = layer.running_mean.clone(), layer.running_var.clone()  # pyright: ignore
    x = samples(sizes, dims).requires_grad_()
    wanted = [x, *layer.parameters()]
    direction = torch.randn(x.shape, dtype=x.dtype, generator=torch.Generator().manual_seed(5))
    groups.begin(0)
    mine = outputs(layer, groups, x, sizes)
    theirs = torch.cat([by_formula(layer, part, mean, var, r_max, d_max) for part in x.split(list(sizes))])
    assert torch.allclose(mine, theirs, rtol=1e-12, atol=1e-12)
    for a, b in zip(*(torch.autograd.grad((y * direction).sum(), wanted) for y in (mine, theirs)), strict=True):
        assert torch.allclose(a, b, rtol=1e-11, atol=1e-12)


def test_without_limits_training_gives_what_evaluation_gives() -> None:
    layer, groups = renorm_of(layer_of(2), 1e9, 1e9)
    x = samples((4, 4, 3), 2)
    expected = copy.deepcopy(layer).eval()(x)
    assert torch.allclose(outputs(layer, groups, x, (4, 4, 3)), expected, rtol=1e-12, atol=1e-12)


def test_with_limits_of_1_and_0_it_is_batch_norm() -> None:
    layer, groups = renorm_of(layer_of(2), 1.0, 0.0)
    plain = nn.BatchNorm2d(3).double()
    plain.load_state_dict(layer.state_dict())
    x = samples((6,), 2)
    assert torch.allclose(outputs(layer, groups, x, (6,)), plain(x), rtol=1e-12, atol=1e-13)
    for name, value in plain.state_dict().items():
        assert torch.allclose(layer.state_dict()[name].double(), value.double(), rtol=1e-12), name


def test_groups_of_a_mini_batch_meet_the_statistics_from_before_it_whatever_the_micro_batches() -> None:
    sizes, x = (4, 4, 4, 3), samples((4, 4, 4, 3), 2)
    results = []
    for cut in ([(4, 4, 4, 3)], [(4, 4), (4, 3)], [(4,), (4,), (4,), (3,)]):
        layer, groups = renorm_of(layer_of(2), 3.0, 5.0)
        groups.begin(0)
        parts = x.split([sum(one) for one in cut])
        results.append(torch.cat([outputs(layer, groups, part, one) for part, one in zip(parts, cut, strict=True)]))
        groups.begin(sum(sizes))
        results[-1] = torch.cat([results[-1], outputs(layer, groups, x[:4], (4,))])
    for other in results[1:]:
        assert torch.allclose(other, results[0], rtol=1e-12, atol=1e-12)


def test_a_new_mini_batch_meets_the_statistics_that_the_last_one_left() -> None:
    layer, groups = renorm_of(layer_of(2), 3.0, 5.0)
    x = samples((6,), 2)
    groups.begin(0)
    first, again = outputs(layer, groups, x, (6,)), outputs(layer, groups, x, (6,))
    groups.begin(6)
    assert torch.equal(first, again) and not torch.allclose(outputs(layer, groups, x, (6,)), first)


RENORM = [
    *DOUBLE,
    *CNN,
    "batch_norm=renorm",
    "batch.size=50",
    "batch_norm.group_size=8",
    "batch_norm.renorm_start=2it",
    "batch_norm.r_max_at=20it",
    "batch_norm.d_max_at=30it",
]


@pytest.mark.parametrize("micro_size", [8, 20])
@pytest.mark.parametrize("momentum", ["batch_norm.momentum=0.1", "batch_norm.half_life=100sp"])
def test_split_changes_nothing(
    train: Callable[..., Any], train_once: Callable[..., Any], micro_size: int, momentum: str
) -> None:
    check_same(train(*RENORM, momentum, f"batch.micro_size={micro_size}"), train_once(*RENORM, momentum))


def test_it_is_batch_norm_until_it_starts_and_no_longer(train: Callable[..., Any]) -> None:
    common = [*RENORM, "batch_norm.renorm_start=10it", "batch_norm.momentum=0.1", "optimizer.lr=0.05"]
    renorm, batch = (rows(train(*common, f"batch_norm.kind={kind}").run_dir) for kind in ("renorm", "batch"))
    gaps = [abs(a["train/loss"] - b["train/loss"]) for a, b in zip(renorm, batch, strict=True)]
    # The limits are those at the start of an iteration: that of the 12th is the first above (1, 0).
    assert max(gaps[:11]) < 1e-9 and min(gaps[11:20]) > 1e-6
