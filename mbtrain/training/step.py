"""What an iteration computes, in plain torch that runs as it is or compiled: in one piece, or by parts."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from mbtrain.core.gradient import Gradient, mean_gradient, nonzero
from mbtrain.data.loader import Micro, MiniBatch, Part
from mbtrain.optim.clip import clipped, global_norm
from mbtrain.optim.written_out import Rule
from mbtrain.training.forward import Forward


class Done(NamedTuple):
    """What an iteration leaves for its row."""

    losses: Tensor
    weight: float | Tensor
    pairs: Sequence[tuple[Tensor, Tensor]]
    norm: Tensor | None


@dataclass(frozen=True)
class Step:
    """What an iteration computes with; `iterate` computes it in one piece."""

    forward: Forward
    parameters: Sequence[nn.Parameter]
    optimizer: torch.optim.Optimizer
    clip_norm: float | None

    def iterate(self, mini_batch: MiniBatch, rule: Rule, lr: Tensor) -> Done:
        """Mean gradient of the mini-batch, clip, and `rule` in place with the learning rate `lr` (0-d)."""
        pairs: list[tuple[Tensor, Tensor]] = []

        def evaluate(micro: Micro) -> tuple[Tensor, Tensor | None]:
            output, values, weights = self.forward(micro)
            pairs.append((output.detach(), micro.target))
            return values, weights

        result = mean_gradient(
            mini_batch.micro_batches(), evaluate, self.parameters, num_micro_batches=mini_batch.num_micro_batches
        )
        norm = self.update(result.gradient, rule, lr)
        return Done(result.losses, result.weight, pairs, norm)

    @torch.no_grad()
    def update(self, gradient: Gradient, rule: Rule, lr: Tensor) -> Tensor | None:
        """Clip and step; the gradient's global norm before clipping, where it is clipped."""
        norm = None
        if self.clip_norm is not None:
            norm = global_norm(gradient)
            gradient = clipped(gradient, self.clip_norm, norm)
        rule(gradient, lr)
        return norm


class StepByParts:
    """The same iteration, however many micro-batches it has, by two functions: `add` for a few of them, then `update`.

    They add up in tensors that stay where they are, 0 between two iterations: sum_j grad(sum_i values_ji) and the sums
    of values and weights, divided at the end as in mbtrain.core.gradient. `prepare` makes of each function what is
    called, given with it what tells apart calls that want another code; `example` is a mini-batch of the run.
    """

    def __init__(
        self,
        step: Step,
        rule: Rule,
        example: MiniBatch,
        *,
        at_once: int = 1,
        prepare: Callable[..., Any] = lambda function, kind=None: function,
    ) -> None:
        self._step, self._rule, self._read, self._at_once = step, rule, example.read, at_once
        first = step.parameters[0]
        # Not 0-d: a compiled function loses, without a word, what it adds to a 0-d float64 tensor on the CPU.
        self._loss, self._weight = (torch.zeros(1, dtype=first.dtype, device=first.device) for _ in range(2))
        values = step.forward(next(example.micro_batches())).values
        reached = torch.autograd.grad(values.sum(), step.parameters, allow_unused=True)
        self._gradient = [None if one is None else torch.zeros_like(one) for one in reached]
        self._add, self._update = prepare(self.add, sizes_of), prepare(self.update)

    def iterate(self, mini_batch: MiniBatch, lr: Tensor) -> Done:
        """One iteration, update included, with the learning rate `lr` (0-d)."""
        parts, pairs = list(mini_batch.parts()), []
        for start in range(0, len(parts), self._at_once):
            pairs += self._add(parts[start : start + self._at_once])
        losses, weight, norm = self._update(lr)
        return Done(losses, weight, pairs, norm)

    def add(self, parts: Sequence[Part]) -> list[tuple[Tensor, Tensor]]:
        """Forward and backward of micro-batches; their outputs and targets."""
        return [self._add_one(self._read(part)) for part in parts]

    def _add_one(self, micro: Micro) -> tuple[Tensor, Tensor]:
        output, values, weights = self._step.forward(micro)
        loss = values.sum()
        gradient = torch.autograd.grad(loss, self._step.parameters, allow_unused=True)
        with torch.no_grad():
            for total, one in zip(self._gradient, gradient, strict=True):
                if total is not None and one is not None:
                    total.add_(one)
            self._loss.add_(loss.detach())
            self._weight.add_(values.numel() if weights is None else weights.sum())
        return output.detach(), micro.target

    @torch.no_grad()
    def update(self, lr: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
        """Clip and step with what was added up; loss ([1], summed), weight and gradient norm of the mini-batch."""
        losses, weight = self._loss.clone(), self._weight[0].clone()
        divisor = nonzero(weight)
        norm = self._step.update([None if one is None else one / divisor for one in self._gradient], self._rule, lr)
        for total in (self._loss, self._weight, *self._gradient):
            if total is not None:
                total.zero_()
        return losses, weight, norm


def sizes_of(parts: Sequence[Part]) -> tuple[Any, ...]:
    """What the code for some micro-batches depends on: how many samples and which BN groups each has."""
    return tuple((len(part.places), part.groups) for part in parts)
