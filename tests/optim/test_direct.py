"""The direct step against torch.optim's own, bit for bit, on one state."""

import copy
from typing import Any

import pytest
import torch
from torch import nn

from mbtrain.optim.direct import DirectStep, rule_of_kernels
from mbtrain.optim.groups import parameter_groups
from mbtrain.optim.written_out import rule_of

SGD = [
    {"momentum": 0.9},
    {"momentum": 0.9, "nesterov": True, "weight_decay": 1e-3},
    {"momentum": 0.8, "dampening": 0.1},
]
ADAMW = [{}, {"betas": (0.8, 0.95), "eps": 1e-6, "weight_decay": 0.1}]
CASES = [(torch.optim.SGD, options) for options in SGD] + [(torch.optim.AdamW, options) for options in ADAMW]


def model_and_optimizer(make: Any, options: dict[str, Any], dtype: torch.dtype) -> tuple[nn.Module, Any]:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(7, 5), nn.BatchNorm1d(5), nn.Linear(5, 3)).to(dtype)
    return model, make(parameter_groups(model, decays_norms=False), lr=0.1, fused=True, **options)


def gradients(optimizer: torch.optim.Optimizer, step: int) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(step)
    return [
        torch.randn(one.shape, generator=generator, dtype=one.dtype)
        for group in optimizer.param_groups
        for one in group["params"]
    ]


def step(optimizer: torch.optim.Optimizer, gradient: list[torch.Tensor]) -> None:
    parameters = [one for group in optimizer.param_groups for one in group["params"]]
    for parameter, one in zip(parameters, gradient, strict=True):
        parameter.grad = one.clone()
    optimizer.step()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("make", "options"), CASES, ids=str)
def test_direct_step_is_bit_equal(make: Any, options: dict[str, Any], dtype: torch.dtype) -> None:
    model, optimizer = model_and_optimizer(make, options, dtype)
    reference, theirs = model_and_optimizer(make, options, dtype)
    direct = DirectStep(optimizer)
    assert direct.is_possible
    for number in range(12):
        for one in (optimizer, theirs):
            for group in one.param_groups:
                group["lr"] = 0.1 / (1 + number)
        gradient = gradients(optimizer, number)
        was_direct = direct.try_step([one.clone() for one in gradient])
        assert was_direct is (number > 0), "the first step is the optimizer's own, all others are direct"
        if not was_direct:
            step(optimizer, gradient)
        step(theirs, gradient)
        if number == 5:
            optimizer.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), reference.parameters(), strict=True))
    mine, other = optimizer.state_dict()["state"], theirs.state_dict()["state"]
    for key in other:
        assert all(torch.equal(mine[key][name], value) for name, value in other[key].items())


@pytest.mark.parametrize(
    ("make", "options"),
    [(torch.optim.SGD, {"maximize": True}), (torch.optim.AdamW, {"amsgrad": True}), (torch.optim.Adam, {})],
    ids=str,
)
def test_what_is_not_known_is_left_to_the_optimizer(make: Any, options: dict[str, Any]) -> None:
    assert not DirectStep(model_and_optimizer(make, options, torch.float32)[1]).is_possible


def test_optimizer_that_is_not_fused_is_left_alone() -> None:
    assert not DirectStep(torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1)).is_possible


def test_missing_gradients_and_hooks_are_left_to_the_optimizer() -> None:
    _, optimizer = model_and_optimizer(torch.optim.SGD, {"momentum": 0.9}, torch.float32)
    direct = DirectStep(optimizer)
    step(optimizer, gradients(optimizer, 0))
    assert direct.try_step(gradients(optimizer, 1))
    assert not direct.try_step([None, *gradients(optimizer, 1)[1:]])
    optimizer.register_step_pre_hook(lambda *_: None)
    assert not direct.try_step(gradients(optimizer, 2))


def test_plain_sgd_without_momentum_keeps_no_state_and_is_left_to_the_optimizer() -> None:
    _, optimizer = model_and_optimizer(torch.optim.SGD, {}, torch.float32)
    step(optimizer, gradients(optimizer, 0))
    DirectStep(optimizer).try_step(gradients(optimizer, 1))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("reached", ["all", "not the first"])
@pytest.mark.parametrize(("make", "options"), [CASES[0], CASES[1], CASES[3], CASES[4]], ids=str)
def test_rule_of_the_kernels_steps_as_the_optimizer_does(
    make: Any, options: dict[str, Any], reached: str, dtype: torch.dtype
) -> None:
    model, optimizer = model_and_optimizer(make, options, dtype)
    reference, theirs = model_and_optimizer(make, options, dtype)
    parameters = sorted(model.parameters(), key=lambda one: one.numel())  # in another order than the groups
    rule_of(optimizer, parameters)  # makes the state
    rule = rule_of_kernels(optimizer, parameters, is_replayed=dtype == torch.float32)
    assert rule is not None
    by_size = sorted(reference.parameters(), key=lambda one: one.numel())
    for number in range(8):
        generator = torch.Generator().manual_seed(number)
        gradient: list[torch.Tensor | None] = [
            torch.randn(one.shape, generator=generator).to(dtype) for one in parameters
        ]
        if reached != "all":
            gradient[0] = None
        rule(gradient, torch.tensor(0.1 / (1 + number), dtype=dtype))
        for group in theirs.param_groups:
            group["lr"] = 0.1 / (1 + number)
        for parameter, one in zip(by_size, gradient, strict=True):
            parameter.grad = one
        theirs.step()
    for ours, one in zip(parameters, by_size, strict=True):
        torch.testing.assert_close(ours, one, rtol=1e-6, atol=1e-7 if dtype == torch.float32 else 0)


def test_there_are_no_kernels_for_an_optimizer_of_another_class() -> None:
    parameter = torch.nn.Parameter(torch.zeros(2))
    assert rule_of_kernels(torch.optim.RAdam([parameter], lr=0.1), [parameter], is_replayed=False) is None
    double = torch.nn.Parameter(torch.zeros(2, dtype=torch.float64))
    # The kernels take no learning rate on a device there.
    assert rule_of_kernels(torch.optim.SGD([double], lr=0.1, fused=True), [double], is_replayed=True) is None
