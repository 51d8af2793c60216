"""Which parameters a noise scale is of, in which groups, and by which metric their gradient is measured."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from mbtrain.core.gradient import Gradient, Multiple
from mbtrain.core.noise_scale import norms
from mbtrain.plan.refused import Refused

GROUPINGS = ("none", "layer", "optimizer")


class Lens:
    """Squared norms of a gradient, summed by group: [groups], float64.

    With an optimizer to precondition by, the gradient is measured through D = 1 / (sqrt(v) + eps), Adam's v after the
    update before (bias-corrected): then nothing is measured until `is_ready`.
    """

    def __init__(
        self,
        trained: Mapping[str, Tensor],
        *,
        group_by: str,
        optimizer: torch.optim.Optimizer,
        is_kept: Sequence[bool],
        is_preconditioned: bool = False,
    ) -> None:
        self.places = [place for place, kept in enumerate(is_kept) if kept]
        self.parameters = [list(trained.values())[place] for place in self.places]
        labels = _labels(trained, group_by, optimizer)
        kept_labels = [labels[place] for place in self.places]
        self.names = sorted(set(kept_labels), key=kept_labels.index)
        device = self.parameters[0].device
        self._index = torch.tensor([self.names.index(one) for one in kept_labels], device=device)
        self._like = torch.zeros((), dtype=torch.float64, device=device)
        self._optimizer = optimizer if is_preconditioned else None
        self._factors: list[Tensor] = []

    def begin(self) -> None:
        """Take the metric of the coming iteration."""
        self._factors = []
        if self._optimizer is not None and self.is_ready:
            self._factors = [_adam_factor(self._optimizer, one) for one in self.parameters]

    @property
    def is_ready(self) -> bool:
        """Whether the optimizer has the second moments of a first update."""
        state = {} if self._optimizer is None else self._optimizer.state
        return self._optimizer is None or all("exp_avg_sq" in state.get(one, {}) for one in self.parameters)

    def see(self, gradient: Gradient) -> Tensor:
        """|D g|^2 by group of the whole model's `gradient`."""
        return self.sums(self.norms(gradient).double().square())

    def norms(self, gradient: Gradient) -> Tensor:
        """|D g| of each parameter that counts."""
        if isinstance(gradient, Multiple):
            return self.norms(gradient.raw) * gradient.factor
        kept = [gradient[place] for place in self.places]
        if self._factors:
            kept = [None if one is None else one * d for one, d in zip(kept, self._factors, strict=True)]
        return norms(kept, self._like)

    def kept(self, values: Tensor) -> Tensor:
        """Of one value a parameter of the whole model, those of the parameters that count."""
        return values if len(self.places) == len(values) else values[self.places]

    def sums(self, values: Tensor) -> Tensor:
        """Sums by group of one value a parameter that counts."""
        if len(self.names) == 1:
            return values.sum(dtype=torch.float64)[None]
        return values.new_zeros(len(self.names), dtype=torch.float64).index_add(0, self._index, values.double())


def norm_parameters(model: nn.Module) -> set[int]:
    """The ids of the scales and shifts of norm layers."""
    kinds = (nn.modules.batchnorm._BatchNorm, nn.GroupNorm, nn.LayerNorm, nn.RMSNorm)
    return {id(one) for layer in model.modules() if isinstance(layer, kinds) for one in layer.parameters(recurse=False)}


def layer_of(name: str) -> str:
    """The layer of a parameter, as a part of a column's name.

    >>> layer_of("layers.1.weight"), layer_of("scale")
    ('layers.1', 'scale')
    """
    return re.sub(r"\.[^.]*$", "", name)


def _labels(trained: Mapping[str, Tensor], group_by: str, optimizer: torch.optim.Optimizer) -> list[str]:
    if group_by not in GROUPINGS:
        raise Refused(f"probe.noise_scale.group_by={group_by}: there are {', '.join(GROUPINGS)}")
    if group_by == "none":
        return ["all"] * len(trained)
    if group_by == "layer":
        return [layer_of(name) for name in trained]
    group_of = {id(one): number for number, group in enumerate(optimizer.param_groups) for one in group["params"]}
    return [f"group_{group_of[id(one)]}" for one in trained.values()]


def _adam_factor(optimizer: torch.optim.Optimizer, parameter: Tensor) -> Tensor:
    group: dict[str, Any] = next(g for g in optimizer.param_groups if any(parameter is one for one in g["params"]))
    state = optimizer.state[parameter]
    corrected = state["exp_avg_sq"] / (1 - group["betas"][1] ** state["step"])
    return 1 / (corrected.sqrt() + group["eps"])
