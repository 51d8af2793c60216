"""The contract of a loss: `loss(output, target) -> values` or `(values, weights)`, one per sample or token.

They are kept until the log has added them up: a loss makes new ones each time.
"""

import inspect
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from mbtrain.plan.refused import Refused

Loss = Callable[[Any, Any], "Tensor | tuple[Tensor, Tensor]"]
# The target that torch's class losses leave out; with one target a sample there is nothing to leave out.
IGNORED = -100


def ignored_in(target: Tensor, ignore_index: int | None) -> int | None:
    """The class that counts for nothing: `ignore_index`, else -100 where a sample has many targets."""
    return IGNORED if ignore_index is None and target.dim() > 1 else ignore_index


def takes_reduction(loss_class: object) -> bool:
    """Whether a loss has a `reduction` option; it is then built with "none"."""
    try:
        return "reduction" in inspect.signature(loss_class).parameters  # pyright: ignore[reportArgumentType]
    except (TypeError, ValueError):
        return False


def as_loss(loss: Any) -> Loss:
    """`loss` under the contract; torch's class losses with `weight` or `ignore_index` get their weights back."""
    if getattr(loss, "reduction", "none") != "none":
        raise Refused(f"loss: {type(loss).__name__} reduces by {loss.reduction!r}: build it with reduction: none")
    if isinstance(loss, nn.CrossEntropyLoss | nn.NLLLoss):
        return ClassWeighted(loss)
    return loss


class ClassWeighted(nn.Module):
    """A torch class loss with the weights that its mean would divide by: weight[target], 0 where ignored."""

    def __init__(self, loss: nn.CrossEntropyLoss | nn.NLLLoss) -> None:
        super().__init__()
        self.loss = loss

    def forward(self, output: Tensor, target: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        """Values of the shape of `target`, with weights where they are not all 1."""
        values = self.loss(output, target)
        if target.is_floating_point():
            return values
        return with_class_weights(values, target, self.loss.weight, self.loss.ignore_index)


def with_class_weights(
    values: Tensor, target: Tensor, weight: Tensor | None, ignore_index: int | None
) -> Tensor | tuple[Tensor, Tensor]:
    """`values`, or (values, weights) where classes weigh differently or a target index is ignored."""
    if weight is None and ignore_index is None:
        return values
    is_kept = torch.ones_like(target, dtype=torch.bool) if ignore_index is None else target != ignore_index
    weights = values.new_ones(target.shape) if weight is None else weight[target.where(is_kept, 0)].to(values.dtype)
    return values, weights * is_kept


def losses_of(loss: Loss, output: Any, target: Any) -> tuple[Tensor, Tensor | None]:
    """(values, weights or None) of a micro-batch; Refused where the loss gives a single number."""
    result = loss(output, target)
    values, weights = result if isinstance(result, tuple) else (result, None)
    if values.dim() == 0:
        raise Refused(
            f"loss: {_name(loss)} gives one number for the whole mini-batch, a value per sample is needed: "
            "leave its mean out (reduction: none)"
        )
    if weights is not None and weights.shape != values.shape:
        raise Refused(f"loss: {_name(loss)} gives values {list(values.shape)} but weights {list(weights.shape)}")
    return values, weights


def _name(loss: Any) -> str:
    loss = getattr(loss, "func", loss)  # a partial's function
    return getattr(loss, "__name__", type(loss).__name__)
