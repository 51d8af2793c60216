"""Losses with known slopes, curvature and summits: a quadratic, a linear classifier, a small net."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F

from mbtrain.core.mean_loss import MeanLoss

Chunk = tuple[Tensor, Tensor]


def quadratic(matrix: Tensor, minimum: Tensor, *, height: float = 0.5) -> MeanLoss[Tensor]:
    """height + (w - minimum)^T matrix (w - minimum) / 2, as a mean over two samples in two chunks."""

    def evaluate(parts: Sequence[Tensor], share: Tensor) -> tuple[Tensor, None]:
        away = parts[0] - minimum
        return 2 * share * (height + away @ matrix @ away / 2), None

    shares = [torch.full((1,), share, dtype=matrix.dtype) for share in (0.25, 0.75)]
    return MeanLoss(shares, evaluate, [minimum])


def samples(num_samples: int, *, num_features: int, num_classes: int) -> Chunk:
    generator = torch.Generator().manual_seed(3)
    x = torch.randn(num_samples, num_features, generator=generator, dtype=torch.float64)
    return x, torch.randint(num_classes, (num_samples,), generator=generator)


def cross_entropy(model: nn.Module, chunks: Sequence[Chunk], weight: Tensor | None = None) -> MeanLoss[Chunk]:
    """The mean cross-entropy of `model` over chunks, classes weighted where `weight` is given."""
    names = [name for name, _ in model.named_parameters()]

    def evaluate(parts: Sequence[Tensor], chunk: Chunk) -> tuple[Tensor, Tensor | None]:
        output = functional_call(model, dict(zip(names, parts, strict=True)), (chunk[0],))
        values = F.cross_entropy(output, chunk[1], weight, reduction="none")
        return values, None if weight is None else weight[chunk[1]]

    return MeanLoss(chunks, evaluate, list(model.parameters()))


def small_net() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3)).double()


def flat(model: nn.Module) -> Tensor:
    return nn.utils.parameters_to_vector(model.parameters()).detach()


def whole(model: nn.Module, batch: Chunk, weight: Tensor | None = None) -> Callable[[Tensor], Tensor]:
    """torch's own mean cross-entropy of one big batch, as a function of the flat weights."""

    def loss(weights: Tensor) -> Tensor:
        named, start = {}, 0
        for name, one in model.named_parameters():
            named[name] = weights[start : start + one.numel()].view_as(one)
            start += one.numel()
        return F.cross_entropy(functional_call(model, named, (batch[0],)), batch[1], weight)

    return loss
