"""SGD and AdamW written out on the state of a torch.optim instance: what a compiled iteration can trace."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from mbtrain.core.gradient import Gradient

Rule = Callable[[Gradient, Tensor], None]


def is_known(optimizer: torch.optim.Optimizer) -> bool:
    """Whether `rule_of` can write this optimizer out."""
    # With dampening torch's first step takes the gradient whole, all others a part of it.
    odd = ("maximize", "differentiable", "amsgrad", "dampening")
    return type(optimizer) in (torch.optim.SGD, torch.optim.AdamW) and not any(
        group.get(name) for group in optimizer.param_groups for name in odd
    )


def rule_of(optimizer: torch.optim.Optimizer, parameters: Sequence[Tensor]) -> Rule:
    """`rule(gradient, lr)` steps `parameters` in place as `optimizer` would; its state is made where it is missing.

    The options of the groups are taken as they are now: where they change, ask again.
    """
    options = {id(one): group for group in optimizer.param_groups for one in group["params"]}
    update = _sgd if isinstance(optimizer, torch.optim.SGD) else _adamw
    steps = [update(one, optimizer.state[one], dict(options[id(one)])) for one in parameters]

    def rule(gradient: Gradient, lr: Tensor) -> None:
        for step, one in zip(steps, gradient, strict=True):
            if one is not None:
                step(one, lr)

    return rule


def _sgd(parameter: Tensor, state: dict[str, Any], group: Mapping[str, Any]) -> Callable[[Tensor, Tensor], None]:
    momentum, decay, is_nesterov = group["momentum"], group["weight_decay"], group["nesterov"]
    if momentum and state.get("momentum_buffer") is None:
        state["momentum_buffer"] = torch.zeros_like(parameter)
    buffer = state.get("momentum_buffer")

    def step(gradient: Tensor, lr: Tensor) -> None:
        if decay:
            gradient = gradient + decay * parameter
        if buffer is not None:
            buffer.mul_(momentum).add_(gradient)
            gradient = gradient + momentum * buffer if is_nesterov else buffer
        parameter.sub_(lr * gradient)

    return step


def _adamw(parameter: Tensor, state: dict[str, Any], group: Mapping[str, Any]) -> Callable[[Tensor, Tensor], None]:
    (beta1, beta2), eps, decay = group["betas"], group["eps"], group["weight_decay"]
    log1, log2 = (math.log(beta) if beta else -math.inf for beta in (beta1, beta2))
    if not state:
        state["step"] = torch.zeros((), dtype=torch.float32, device=parameter.device)
        state["exp_avg"], state["exp_avg_sq"] = torch.zeros_like(parameter), torch.zeros_like(parameter)
    count, mean, square = state["step"], state["exp_avg"], state["exp_avg_sq"]

    def step(gradient: Tensor, lr: Tensor) -> None:
        count.add_(1)
        parameter.mul_(1 - lr * decay)
        mean.lerp_(gradient, 1 - beta1)
        square.mul_(beta2).addcmul_(gradient, gradient, value=1 - beta2)
        # expm1, because 1 - beta ** t loses its digits in float32.
        t = count.to(parameter.dtype)
        root = (square / -torch.expm1(t * log2)).sqrt() + eps
        parameter.sub_(lr * (mean / -torch.expm1(t * log1)) / root)

    return step
