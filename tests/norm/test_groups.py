"""Batch norm over BN groups against a loop over torch's own layer."""

import copy
from collections.abc import Sequence

import pytest
import torch
from torch import Tensor, nn

from mbtrain.norm.convert import convert
from mbtrain.norm.groups import BnGroups, FrozenBatchNorm, GroupBatchNorm, has_batch_norm
from mbtrain.plan.batch import interleaved
from mbtrain.plan.refused import Refused

GROUPS = [(4, 4), (4, 4, 3), (4, 5), (2, 2, 2, 2), (6, 2), (3,), (5, 5, 5, 1 + 5)]


def layer_of(dims: int, **options: object) -> nn.Module:
    torch.manual_seed(1)
    layer = {0: nn.BatchNorm1d, 2: nn.BatchNorm2d, 3: nn.BatchNorm3d}[dims](3, **options).double()
    if layer.affine:
        nn.init.normal_(layer.weight)
        nn.init.normal_(layer.bias)
    return layer


def samples(sizes: Sequence[int], dims: int) -> Tensor:
    return torch.randn(sum(sizes), 3, *[4] * dims, dtype=torch.float64, generator=torch.Generator().manual_seed(2))


def loop_over_groups(layer: nn.Module, x: Tensor, sizes: Sequence[int]) -> Tensor:
    return torch.cat([layer(part) for part in x.split(list(sizes))])


def grouped(layer: nn.Module, x: Tensor, sizes: tuple[int, ...]) -> Tensor:
    """Our layer on the samples in its own order, put back into theirs."""
    groups = BnGroups()
    groups.sizes = sizes
    ours = convert(layer, "batch", groups)
    order = interleaved(sizes) or list(range(sum(sizes)))
    output = ours(x[order])
    restored = torch.empty_like(output)
    restored[order] = output
    return restored


@pytest.mark.parametrize("dims", [0, 2, 3])
@pytest.mark.parametrize("sizes", GROUPS, ids=str)
@pytest.mark.parametrize("momentum", [0.1, 1.0, None])
def test_groups_equal_a_loop_over_them(dims: int, sizes: tuple[int, ...], momentum: float | None) -> None:
    layer = layer_of(dims, momentum=momentum)
    reference = copy.deepcopy(layer)
    x = samples(sizes, dims)
    for _ in range(3):
        mine, theirs = grouped(layer, x, sizes), loop_over_groups(reference, x, sizes)
        assert torch.allclose(mine, theirs, rtol=1e-12, atol=1e-13)
    for name, value in reference.state_dict().items():
        assert torch.allclose(layer.state_dict()[name].double(), value.double(), rtol=1e-12, atol=1e-14), name


@pytest.mark.parametrize("sizes", GROUPS, ids=str)
def test_gradients_equal_those_of_a_loop_over_groups(sizes: tuple[int, ...]) -> None:
    layer = layer_of(2)
    reference = copy.deepcopy(layer)
    x = samples(sizes, 2).requires_grad_()
    weight = torch.randn_like(x)
    results = []
    for make, one in ((grouped, layer), (loop_over_groups, reference)):
        gradients = torch.autograd.grad((make(one, x, sizes) * weight).sum(), [x, one.weight, one.bias])
        results.append(gradients)
    for mine, theirs in zip(*results, strict=True):
        assert torch.allclose(mine, theirs, rtol=1e-11, atol=1e-13)


def test_evaluation_uses_running_statistics_whatever_the_groups() -> None:
    layer = layer_of(2)
    layer.running_mean.normal_()
    reference = copy.deepcopy(layer).eval()
    groups = BnGroups()
    groups.sizes = (4, 4)
    x = samples((8,), 2)
    assert torch.equal(convert(layer, "batch", groups).eval()(x), reference(x))


@pytest.mark.parametrize("options", [{"affine": False}, {"track_running_stats": False}], ids=str)
def test_layers_without_scale_or_running_statistics_work(options: dict[str, bool]) -> None:
    layer = layer_of(2, **options)
    reference = copy.deepcopy(layer)
    x = samples((4, 4), 2)
    assert torch.allclose(grouped(layer, x, (4, 4)), loop_over_groups(reference, x, (4, 4)), rtol=1e-12, atol=1e-13)


def test_state_dict_is_that_of_torch() -> None:
    layer = layer_of(2)
    ours = GroupBatchNorm(copy.deepcopy(layer), BnGroups(), momentum=0.1)
    assert list(ours.state_dict()) == list(layer.state_dict())


def test_wrong_number_of_samples_is_told() -> None:
    groups = BnGroups()
    groups.sizes = (4, 4)
    with pytest.raises(ValueError, match="got 9 samples where the BN groups hold 8"):
        convert(layer_of(2), "batch", groups)(samples((9,), 2))


def test_without_batch_norm_one_sample_does_not_depend_on_another_with_it_it_does() -> None:
    """What batch norm is: the lesson of the project in one test."""
    x = samples((6,), 2)
    changed = x.clone()
    changed[1:] += 1
    for model, depends in ((nn.Conv2d(3, 3, 1).double(), False), (layer_of(2), True)):
        model.train()
        assert torch.equal(model(x)[0], model(changed)[0]) is not depends


@pytest.mark.parametrize("kind", ["group_norm", "layer_norm", "none", "frozen"])
def test_other_norms_leave_a_sample_to_itself(kind: str) -> None:
    model = convert(nn.Sequential(layer_of(2)), kind, BnGroups()).double().train()
    x = samples((6,), 2)
    changed = x.clone()
    changed[1:] += 1
    assert torch.equal(model(x)[0], model(changed)[0])
    assert not has_batch_norm(model)


def test_frozen_keeps_its_statistics_and_trains_scale_and_shift() -> None:
    model = convert(layer_of(2), "frozen", BnGroups()).train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    model(samples((6,), 2)).sum().backward()
    assert isinstance(model, FrozenBatchNorm) and model.weight.grad is not None
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_every_batch_norm_of_any_model_is_converted() -> None:
    class Odd(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first = nn.BatchNorm1d(4)
            self.inner = nn.ModuleDict({"a": nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4))})
            self.shared = self.first

    model = convert(Odd(), "batch", BnGroups())
    assert sum(isinstance(one, GroupBatchNorm) for one in model.modules()) == 2
    assert model.shared is model.first


def test_momentum_is_set_or_kept() -> None:
    for wanted, expected in ((None, 0.1), (0.4, 0.4)):
        layer = convert(nn.BatchNorm2d(3), "batch", BnGroups(), momentum=wanted)
        assert layer.momentum == expected


def test_group_norm_divides_any_width() -> None:
    for width in (1, 7, 16, 48, 50):
        layer = convert(nn.BatchNorm2d(width), "group_norm", BnGroups(), channels_per_group=16)
        assert isinstance(layer, nn.GroupNorm) and width % layer.num_groups == 0


def test_unknown_kind_is_refused() -> None:
    with pytest.raises(Refused, match="batch_norm.kind=x"):
        convert(nn.BatchNorm2d(3), "x", BnGroups())


@pytest.mark.parametrize("sizes", GROUPS, ids=str)
def test_half_life_weighs_a_group_by_its_samples(sizes: tuple[int, ...]) -> None:
    """Against torch's own layer, told the momentum of each group."""
    layer = layer_of(2)
    reference, groups = copy.deepcopy(layer), BnGroups(half_life=10.0)
    groups.sizes = sizes
    x = samples(sizes, 2)
    convert(layer, "batch", groups)(x[interleaved(sizes) or list(range(sum(sizes)))])
    for part in x.split(list(sizes)):
        reference.momentum = 1 - 2 ** (-len(part) / 10)
        reference(part)
    for name in ("running_mean", "running_var"):
        assert torch.allclose(layer.state_dict()[name], reference.state_dict()[name], rtol=1e-12), name


def test_after_the_half_life_half_is_left_whatever_the_groups() -> None:
    for sizes in ((12,), (4, 4, 4), (6, 6), (5, 5, 2)):
        groups = BnGroups(half_life=12.0)
        groups.sizes = sizes
        layer = convert(layer_of(2), "batch", groups)
        layer.running_mean.fill_(1.0)
        layer(torch.zeros(12, 3, 2, 2, dtype=torch.float64))
        assert torch.allclose(layer.running_mean, torch.full((3,), 0.5, dtype=torch.float64), rtol=1e-13)


@pytest.mark.parametrize("dims", [0, 2])
def test_example_weight_mixes_first_and_second_moments_of_each_sample(dims: int) -> None:
    layer = layer_of(dims)
    layer.running_mean.normal_()
    x, alpha = samples((5,), dims), 0.3
    groups = BnGroups(example_weight=alpha)
    output = convert(copy.deepcopy(layer), "batch", groups).eval()(x)
    for one, mine in zip(x, output, strict=True):
        values = one.reshape(3, -1)
        mean = alpha * values.mean(1) + (1 - alpha) * layer.running_mean
        second = alpha * (values**2).mean(1) + (1 - alpha) * (layer.running_var + layer.running_mean**2)
        alone = copy.deepcopy(layer).eval()
        alone.running_mean, alone.running_var = mean, second - mean**2
        assert torch.allclose(mine, alone(one[None])[0], rtol=1e-10)
