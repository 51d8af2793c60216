"""SGD and AdamW written out step as torch's own do."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from mbtrain.optim.written_out import is_known, rule_of

OPTIONS = [
    (torch.optim.SGD, {}),
    (torch.optim.SGD, {"momentum": 0.9, "weight_decay": 0.1}),
    (torch.optim.SGD, {"momentum": 0.9, "nesterov": True}),
    (torch.optim.AdamW, {"weight_decay": 0.1}),
    (torch.optim.AdamW, {"betas": (0.5, 0.7), "eps": 1e-3}),
    (torch.optim.AdamW, {"betas": (0.0, 0.99)}),
]


def parameters(dtype: torch.dtype) -> list[nn.Parameter]:
    generator = torch.Generator().manual_seed(0)
    return [nn.Parameter(torch.randn(*shape, generator=generator, dtype=dtype)) for shape in ((3, 4), (4,))]


def gradients(step: int, dtype: torch.dtype) -> list[Tensor]:
    generator = torch.Generator().manual_seed(step + 1)
    return [torch.randn(*shape, generator=generator, dtype=dtype) for shape in ((3, 4), (4,))]


def stepped_by_torch(kind: Any, options: dict[str, Any], dtype: torch.dtype, num_steps: int) -> list[nn.Parameter]:
    ours = parameters(dtype)
    optimizer = kind(ours, lr=0.1, **options)
    for step in range(num_steps):
        optimizer.param_groups[0]["lr"] = 0.1 / (1 + step)
        for one, gradient in zip(ours, gradients(step, dtype), strict=True):
            one.grad = gradient
        optimizer.step()
    return ours


def stepped_by_rule(kind: Any, options: dict[str, Any], dtype: torch.dtype, num_steps: int) -> list[nn.Parameter]:
    ours = parameters(dtype)
    rule = rule_of(kind(ours, lr=0.1, **options), ours)
    with torch.no_grad():
        for step in range(num_steps):
            rule(gradients(step, dtype), torch.tensor(0.1 / (1 + step), dtype=dtype))
    return ours


@pytest.mark.parametrize(("kind", "options"), OPTIONS, ids=str)
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 1e-5)], ids=["f64", "f32"])
def test_steps_as_torch_does(kind: Any, options: dict[str, Any], dtype: torch.dtype, tolerance: float) -> None:
    theirs, ours = (walk(kind, options, dtype, 30) for walk in (stepped_by_torch, stepped_by_rule))
    torch.testing.assert_close(ours, theirs, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize(("kind", "options"), OPTIONS, ids=str)
def test_leaves_a_state_that_torch_goes_on_from(kind: Any, options: dict[str, Any]) -> None:
    ours = parameters(torch.float64)
    optimizer = kind(ours, lr=0.1, **options)
    rule = rule_of(optimizer, ours)
    with torch.no_grad():
        rule(gradients(0, torch.float64), torch.tensor(0.1, dtype=torch.float64))
    optimizer.param_groups[0]["lr"] = 0.05
    for one, gradient in zip(ours, gradients(1, torch.float64), strict=True):
        one.grad = gradient
    optimizer.step()
    torch.testing.assert_close(ours, stepped_by_torch(kind, options, torch.float64, 2), rtol=1e-12, atol=1e-12)


def test_a_parameter_without_gradient_stays() -> None:
    ours = parameters(torch.float64)
    before = ours[1].detach().clone()
    rule = rule_of(torch.optim.SGD(ours, lr=0.1, weight_decay=0.1), ours)
    with torch.no_grad():
        rule([gradients(0, torch.float64)[0], None], torch.tensor(0.1, dtype=torch.float64))
    assert torch.equal(ours[1], before)


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        (torch.optim.Adam, {}),
        (torch.optim.AdamW, {"amsgrad": True}),
        (torch.optim.SGD, {"momentum": 0.9, "dampening": 0.1}),
    ],
    ids=str,
)
def test_what_is_not_written_out_is_not_known(kind: Any, options: dict[str, Any]) -> None:
    assert not is_known(kind(parameters(torch.float64), lr=0.1, **options))
