"""The exact mean gradient of a mini-batch, however it is cut into micro-batches.

    gradient = sum_j grad(sum_i values_ji) / sum_j sum_i weights_ji

over the micro-batches j: sums are added up and divided once by the weight of the whole mini-batch, because a mean of
micro-batch means is right only where all weights are equal.
"""

from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from typing import Any, NamedTuple, TypeVar

import torch
from torch import Tensor
from torch.autograd import Variable

T = TypeVar("T")
Gradient = Sequence[Tensor | None]
Evaluate = Callable[[T], tuple[Tensor, Tensor | None]]
Observer = Callable[[float | Tensor, Gradient], None]
# Losses that are added up later: torch adds so few of them up in one order, whatever stands beside them (held to the
# bit in float32 and float64 by tests/training/test_metrics.py).
MOST_LEFT = 4096
CROSS_ENTROPY = "NllLossBackward0"


class MeanGradient(NamedTuple):
    """What a mini-batch gives: detached summands [k] of its loss times its weight, its mean gradient, its weight."""

    losses: Tensor
    gradient: Gradient
    weight: float | Tensor

    @property
    def loss(self) -> Tensor:
        """The mean loss, 0-d."""
        return self.losses.sum() / nonzero(self.weight)


class Multiple(Sequence[Tensor | None]):
    """`factor * raw`, multiplied out where it is looked at: a norm is taken of `raw` at a third of the cost."""

    def __init__(self, raw: Gradient, factor: float | Tensor) -> None:
        self.raw, self.factor = raw, factor
        self._product: Gradient | None = None

    def __len__(self) -> int:
        return len(self.raw)

    def __getitem__(self, index: Any) -> Any:
        if self._product is None:
            self._product = _scaled(self.raw, self.factor)
        return self._product[index]


def mean_gradient(
    micro_batches: Iterable[T],
    evaluate: Evaluate[T],
    parameters: Sequence[Tensor],
    *,
    num_micro_batches: int,
    loss_scale: Tensor | None = None,
    observers: Sequence[Observer] = (),
) -> MeanGradient:
    """The weighted mean gradient over `micro_batches`, None for a parameter that the loss does not reach.

    `evaluate` gives the losses of a micro-batch's samples (or tokens) and their weights, None where all are 1; losses
    come already multiplied by their weights. The gradient is multiplied by `loss_scale` (float16), the loss is not.
    Each observer is shown (weight, mean gradient) of every micro-batch, unscaled, before it is added.
    """
    total: Gradient = []
    losses: list[Tensor] = []
    weight: float | Tensor = 0.0
    guess, is_traced = 0.0, torch.compiler.is_compiling()
    for index, micro_batch in enumerate(micro_batches):
        values, weights = evaluate(micro_batch)
        part_weight = float(values.numel()) if weights is None else weights.detach().sum()
        # Dividing by about the final weight keeps half-precision gradients in range; what is off is mended at the end.
        guess = guess or float(values.numel() * num_micro_batches)
        factor = 1 / guess if loss_scale is None else loss_scale / guess
        start = _start(values, factor, is_traced=is_traced)
        gradient: Gradient = _gradient(values, start, parameters, is_traced=is_traced)
        losses.append(_summands(values.detach(), is_traced=is_traced))
        for observe in observers:
            observe(part_weight, Multiple(gradient, _factor(guess / nonzero(part_weight), loss_scale)))
        total = gradient if not index else _added(total, gradient, in_place=index > 1)
        weight = weight + part_weight
    assert len(losses) > 0, "a mini-batch has at least one micro-batch"
    if not (isinstance(weight, float) and weight == guess):
        total = _scaled(total, guess / nonzero(weight))
    summands = losses[0] if len(losses) == 1 else _summands(torch.cat(losses), is_traced=is_traced)
    return MeanGradient(summands, _laid_out(total, parameters), weight)


def nonzero(weight: float | Tensor) -> float | Tensor:
    """`weight`, with 1 for 0: a mini-batch in which every token is ignored has loss and gradient 0, not NaN."""
    return torch.where(weight == 0, torch.ones_like(weight), weight) if isinstance(weight, Tensor) else weight


def _start(values: Tensor, factor: float | Tensor, *, is_traced: bool) -> Tensor:
    """Where autograd starts from for the gradient of `factor * values.sum()`, with no sum in its graph."""
    if isinstance(factor, Tensor):
        return factor.to(values.dtype).expand_as(values)
    if values.is_cpu and not is_traced and _is_read_only(values):
        return _kept(values.shape, factor, values.dtype)
    return torch.full_like(values, factor)


def _is_read_only(values: Tensor) -> bool:
    """Whether nobody writes into where autograd starts from, or passes it on: cross entropy's own backward, no hook."""
    node = values.grad_fn
    return (
        type(values) is Tensor and values._backward_hooks is None and node is not None and node.name() == CROSS_ENTROPY
    )


@lru_cache(maxsize=4)
def _kept(shape: torch.Size, factor: float, dtype: torch.dtype) -> Tensor:
    """The same start in every iteration."""
    return torch.full(shape, factor, dtype=dtype, device="cpu")


def _summands(values: Tensor, *, is_traced: bool) -> Tensor:
    """What adds up to the sum of `values`, 1-d: a few on the host are left to be added up with other iterations'."""
    is_single = values.element_size() > 2
    if is_single and values.is_cpu and values.numel() <= MOST_LEFT and not is_traced:
        return values if values.dim() == 1 else values.flatten()
    return (values if is_single else values.float()).sum()[None]


def _gradient(values: Tensor, start: Tensor, parameters: Sequence[Tensor], *, is_traced: bool) -> Gradient:
    """The gradient of the sum of `start * values`.

    Autograd's engine is called as torch.autograd.grad calls it, whose checks take as long as a layer's backward pass.
    """
    if is_traced or type(values) is not Tensor:
        return torch.autograd.grad(values, parameters, start, allow_unused=True)
    return Variable._execution_engine.run_backward(  # pyright: ignore
        (values,), (start,), False, False, tuple(parameters), allow_unreachable=True, accumulate_grad=False
    )


def _laid_out(gradient: Gradient, parameters: Sequence[Tensor]) -> Gradient:
    """Each in memory as its parameter is: torch's fused optimizers take them one number after the other.

    Loss.backward() sees to it, autograd.grad does not: the gradient of a weight that is used transposed is transposed.
    """
    return [
        one if one is None or one.is_contiguous() and parameter.is_contiguous() else _like(parameter, one)
        for one, parameter in zip(gradient, parameters, strict=True)
    ]


def _like(parameter: Tensor, gradient: Tensor) -> Tensor:
    if gradient.is_sparse or gradient.stride() == parameter.stride():
        return gradient
    return torch.empty_like(parameter).copy_(gradient)


def _factor(factor: float | Tensor, loss_scale: Tensor | None) -> float | Tensor:
    return factor if loss_scale is None else factor / loss_scale


def _scaled(gradient: Gradient, factor: float | Tensor) -> Gradient:
    """`gradient * factor` as new tensors: what autograd returns may share memory between parameters."""
    return [None if one is None else one * factor for one in gradient]


def _clone(gradient: Tensor | None) -> Tensor | None:
    return None if gradient is None else gradient.clone()


def _added(total: Gradient, gradient: Gradient, *, in_place: bool) -> Gradient:
    """The sum; the first is made new, because what autograd returns may share memory between parameters."""
    if any(one is None for one in total) or any(one is None for one in gradient):
        pairs = zip(total, gradient, strict=True)
        return [_clone(a) if b is None else _clone(b) if a is None else a + b for a, b in pairs]
    if in_place:
        torch._foreach_add_(total, gradient)  # pyright: ignore
        return total
    return torch._foreach_add(total, gradient)  # pyright: ignore
