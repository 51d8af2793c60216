"""A micro-batch's way through model and loss: the one place that says which BN groups are in the model now."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from torch import Tensor, nn
from torch.func import functional_call

from mbtrain.losses.contract import Loss, losses_of
from mbtrain.norm.groups import BnGroups


class Passed(NamedTuple):
    """What a forward pass gives: the model's output, the losses and their weights, None where all are 1."""

    output: Any
    values: Tensor
    weights: Tensor | None


@dataclass(frozen=True)
class Forward:
    """Model, loss and the BN groups that the model's layers share."""

    model: nn.Module
    loss: Loss
    groups: BnGroups

    def __call__(self, micro: Any, weights: Mapping[str, Tensor] | None = None) -> Passed:
        """The pass of a micro-batch, which has `inputs`, `target` and `groups`.

        `weights` are put in place of the model's parameters and buffers of these names.
        """
        self.groups.sizes = micro.groups
        if weights is None:
            output = self.model(micro.inputs)
        else:
            output = functional_call(self.model, dict(weights), (micro.inputs,))
        return Passed(output, *losses_of(self.loss, output, micro.target))
