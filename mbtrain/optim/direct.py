"""torch.optim's fused SGD and AdamW called directly: the same kernels and state, without the wrapper's 60 us a step."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from mbtrain.core.gradient import Gradient
from mbtrain.optim.written_out import Rule


class DirectStep:
    """Steps a torch.optim instance in its place; bit-equal to `optimizer.step()`, on its own state.

    The first step is always the optimizer's own, which makes the state. `try_step` refuses, and leaves the step to the
    optimizer, at any surprise: another class, an option that is not known here, a hook, a parameter without gradient.
    """

    def __init__(self, optimizer: torch.optim.Optimizer) -> None:
        self._optimizer = optimizer
        self._step = STEPS.get(type(optimizer))
        self._known: tuple[Any, Any] = (None, None)
        self._states: list[list[Mapping[str, Any]]] = []
        self.is_possible = self._step is not None and all(_is_plain(group) for group in optimizer.param_groups)

    def try_step(self, gradient: Gradient) -> bool:
        """Step with the gradients of all parameters, in the order of the groups; False where it was not done."""
        optimizer, groups = self._optimizer, self._optimizer.param_groups
        if optimizer._optimizer_step_pre_hooks or optimizer._optimizer_step_post_hooks:
            return False
        if any(one is None for one in gradient):
            return False
        if not self._has_states():
            return False
        assert self._step is not None
        start = 0
        # What torch.no_grad() does, which takes as long as the kernel on a small model.
        was_enabled = torch.is_grad_enabled()
        torch._C._set_grad_enabled(False)
        try:
            for group, states in zip(groups, self._states, strict=True):
                stop = start + len(states)
                own = gradient if len(groups) == 1 else gradient[start:stop]
                self._step(group, own, states)  # pyright: ignore[reportArgumentType]
                start = stop
        finally:
            torch._C._set_grad_enabled(was_enabled)
        return True

    def _has_states(self) -> bool:
        """Whether every parameter has its state; looked up again where load_state_dict put new ones."""
        optimizer = self._optimizer
        if self._known[0] is optimizer.state and self._known[1] is optimizer.param_groups:
            return True
        states = [[optimizer.state.get(one, {}) for one in group["params"]] for group in optimizer.param_groups]
        if not all(state for part in states for state in part):
            return False
        self._known, self._states = (optimizer.state, optimizer.param_groups), states
        return True


def rule_of_kernels(
    optimizer: torch.optim.Optimizer, parameters: Sequence[Tensor], *, is_replayed: bool
) -> Rule | None:
    """The rule by the same kernels; one that `is_replayed` by a CUDA graph takes the learning rate on the device.

    It needs the optimizer's state to be there. None where `DirectStep` would refuse, and for a graph in float64,
    because the kernels take a learning rate on a device in float32 only.
    """
    step = STEPS.get(type(optimizer))
    is_double = any(one.dtype == torch.float64 for one in parameters)
    if step is None or not all(_is_plain(group) for group in optimizer.param_groups):
        return None
    if is_double and is_replayed:
        return None
    places = {id(one): place for place, one in enumerate(parameters)}
    groups = [(dict(group), [places[id(one)] for one in group["params"]]) for group in optimizer.param_groups]

    def rule(gradient: Gradient, lr: Tensor) -> None:
        for group, own in groups:
            reached = [place for place in own if gradient[place] is not None]
            rate = lr if is_replayed else float(lr)
            known = {**group, "params": [parameters[place] for place in reached], "lr": rate}
            states = [optimizer.state[one] for one in known["params"]]
            step(known, [gradient[place] for place in reached], states)  # pyright: ignore[reportArgumentType]

    return rule


def _is_plain(group: Mapping[str, Any]) -> bool:
    odd = ("maximize", "differentiable", "amsgrad", "capturable")
    parameters = group["params"]
    kinds = {(one.device, one.dtype) for one in parameters}
    is_fused = bool(group.get("fused")) and not any(group.get(name) for name in odd)
    return is_fused and len(kinds) == 1 and not any(torch.is_complex(one) for one in parameters)


def _sgd(group: Mapping[str, Any], gradient: list[Tensor], states: Sequence[Mapping[str, Any]]) -> None:
    momentum = group["momentum"]
    torch._fused_sgd_(  # pyright: ignore[reportPrivateImportUsage]
        group["params"],
        gradient,
        [state["momentum_buffer"] for state in states] if momentum else [],
        weight_decay=group["weight_decay"],
        momentum=momentum,
        lr=group["lr"],
        dampening=group["dampening"],
        nesterov=group["nesterov"],
        maximize=False,
        is_first_step=False,
    )


def _adamw(group: Mapping[str, Any], gradient: list[Tensor], states: Sequence[Mapping[str, Any]]) -> None:
    steps = [state["step"] for state in states]
    torch._foreach_add_(steps, 1)  # pyright: ignore[reportPrivateImportUsage]
    beta1, beta2 = group["betas"]
    torch._fused_adamw_(  # pyright: ignore[reportPrivateImportUsage]
        group["params"],
        gradient,
        [state["exp_avg"] for state in states],
        [state["exp_avg_sq"] for state in states],
        [],
        steps,
        lr=group["lr"],
        beta1=beta1,
        beta2=beta2,
        weight_decay=group["weight_decay"],
        eps=group["eps"],
        amsgrad=False,
        maximize=False,
    )


STEPS = {torch.optim.SGD: _sgd, torch.optim.AdamW: _adamw}
