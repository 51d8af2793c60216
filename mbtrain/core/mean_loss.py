"""The mean loss of fixed samples as a function of the flat weights: its value, gradient and Hessian-vector products."""

from collections.abc import Callable, Iterable, Sequence
from typing import Generic, TypeVar

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

T = TypeVar("T")
EvaluateAt = Callable[[Sequence[Tensor], T], "tuple[Tensor, Tensor | None]"]


class MeanLoss(Generic[T]):
    """sum of losses / sum of weights over `chunks`, each gone through by itself: their sizes change no result.

    `evaluate` takes weights of the shapes of `parameters` and a chunk, and gives the losses of its samples (or tokens),
    already multiplied by their weights, and these, None where all are 1. It must be a function: no dropout, no batch
    statistics. Flat weights are all of them in one vector [P].

    >>> mean = MeanLoss([torch.tensor([1.0, 3.0])], lambda w, x: ((w[0] - x) ** 2, None), [torch.zeros(1)])
    >>> loss, gradient = mean.gradient(torch.zeros(1))
    >>> float(loss), gradient.tolist(), mean.hessian_product(torch.zeros(1), torch.ones(1)).tolist()
    (5.0, [-4.0], [2.0])
    """

    def __init__(self, chunks: Sequence[T], evaluate: EvaluateAt[T], parameters: Sequence[Tensor]) -> None:
        self._chunks, self._evaluate = chunks, evaluate
        self._shapes = [one.shape for one in parameters]

    def gradient(self, weights: Tensor) -> tuple[Tensor, Tensor]:
        """(loss [], gradient [P]) at `weights`."""
        weights = weights.detach().requires_grad_()
        total, count = weights.new_zeros(()), weights.new_zeros(())
        gradient = torch.zeros_like(weights)
        for values, weight in self._losses(weights):
            gradient += torch.autograd.grad(values, weights)[0]
            total, count = total + values.detach(), count + weight
        return total / count, gradient / count

    def hessian_product(self, weights: Tensor, vector: Tensor) -> Tensor:
        """The Hessian of the mean loss at `weights` times `vector`, by differentiating twice."""
        weights = weights.detach().requires_grad_()
        product, count = torch.zeros_like(weights), weights.new_zeros(())
        # The fast kernels of attention have no second derivative.
        with sdpa_kernel(SDPBackend.MATH):
            for values, weight in self._losses(weights):
                (slope,) = torch.autograd.grad(values, weights, create_graph=True)
                product += torch.autograd.grad(slope, weights, vector, materialize_grads=True)[0]
                count = count + weight
        return product / count

    def _losses(self, weights: Tensor) -> Iterable[tuple[Tensor, float | Tensor]]:
        """(sum of losses, sum of weights) of each chunk, with a trace back to `weights`."""
        with torch.enable_grad():
            for chunk in self._chunks:
                parts = weights.split([shape.numel() for shape in self._shapes])
                shaped = [part.view(shape) for part, shape in zip(parts, self._shapes, strict=True)]
                values, counted = self._evaluate(shaped, chunk)
                yield values.sum(), float(values.numel()) if counted is None else counted.detach().sum()
