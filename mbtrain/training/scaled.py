"""The values that follow the batch size, put where they are used: parameter groups and batch-norm layers."""

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from mbtrain.norm.groups import FrozenBatchNorm
from mbtrain.optim.moments import keep_corrected
from mbtrain.plan.run import Iteration
from mbtrain.plan.scaling import Scaling


class ScaledValues:
    """Sets learning rate, optimizer options and BN momentum for the batch size in force, at the start and at changes.

    What the optimizer and the layers have when this is made is what they are to have at the reference size; `lr` is the
    learning rate in force, before its schedule. Nothing here is state: the batch size of an iteration gives it all.
    """

    def __init__(
        self, scaling: Scaling, optimizer: torch.optim.Optimizer, model: nn.Module, *, lr: float, group_size: int | None
    ) -> None:
        self.scaling, self.lr = scaling, lr
        self._optimizer, self._group_size, self._batch_size = optimizer, group_size, 0
        self._values = [
            {name: value for name, value in group.items() if name != "params"} | {"lr": lr}
            for group in optimizer.param_groups
        ]
        self._layers = list(_layers_with_momentum(model))
        # What was in force from which iteration on, for result.json.
        self.history: list[dict[str, Any]] = []

    def follow(self, iteration: Iteration) -> None:
        """Set everything for the batch size of `iteration`, where it is another than before."""
        if iteration.batch_size == self._batch_size:
            return
        self._batch_size = iteration.batch_size
        if not self.scaling.is_on:
            return
        for group, values in zip(self._optimizer.param_groups, self._values, strict=True):
            self._set_group(group, values)
        self.lr = self.scaling.changed(self._values[0], self._batch_size).get("lr", self._values[0]["lr"])
        for layer, momentum in self._layers:
            layer.momentum = self._momentum(momentum, self._batch_size)
        # After a resume the checkpoint has brought the entry of the size in force.
        if not self.history or self.history[-1]["batch_size"] != self._batch_size:
            entry = {"iteration": iteration.index + 1, "batch_size": self._batch_size}
            self.history.append(entry | {key: now for key, _, now in self.changes(self._batch_size)})

    def changes(self, batch_size: int) -> Iterator[tuple[str, Any, Any]]:
        """(key, configured value, value at `batch_size`) of what differs; Refused where the rule is not defined."""
        for name, now in self.scaling.changed(self._values[0], batch_size).items():
            if now != self._values[0][name]:
                yield f"optimizer.{name}", self._values[0][name], now
        for momentum in dict.fromkeys(momentum for _, momentum in self._layers):
            if (now := self._momentum(momentum, batch_size)) != momentum:
                yield "batch_norm.momentum", momentum, now

    def lines(self, batch_size: int) -> list[str]:
        """What is changed to what, in one line; none where nothing follows.

        scaling=linear: optimizer.lr 0.1 -> 0.8 (batch 256, meant for 32)
        """
        if not self.scaling.is_on:
            return []
        parts = [f"{key} {_shown(before)} -> {_shown(now)}" for key, before, now in self.changes(batch_size)]
        if self.scaling.batch_norm_momentum and not self._layers:
            parts.append("no batch norm in use: scaling.batch_norm_momentum=true changes nothing")
        what = ", ".join(parts) or "nothing is changed"
        sizes = f"batch {batch_size:,}, meant for {self.scaling.reference_size:,}"
        return [f"scaling={self.scaling.name}: {what} ({sizes})"]

    def _set_group(self, group: dict[str, Any], values: Mapping[str, Any]) -> None:
        changed = self.scaling.changed(values, self._batch_size)
        if "betas" in changed and isinstance(self._optimizer, torch.optim.Adam):
            states = [self._optimizer.state[one] for one in group["params"] if one in self._optimizer.state]
            keep_corrected(states, before=group["betas"], after=changed["betas"])
        group |= changed

    def _momentum(self, momentum: float, batch_size: int) -> float:
        return self.scaling.momentum(momentum, batch_size=batch_size, group_size=self._group_size)


def _layers_with_momentum(model: nn.Module) -> Iterator[tuple[_BatchNorm, float]]:
    """Batch-norm layers whose running statistics move; one without a momentum takes the plain mean of all groups."""
    for module in model.modules():
        if isinstance(module, _BatchNorm) and not isinstance(module, FrozenBatchNorm) and module.momentum is not None:
            yield module, module.momentum


def _shown(value: Any) -> str:
    return f"[{', '.join(map(_shown, value))}]" if isinstance(value, list | tuple) else f"{value:.6g}"
