"""Scores beside the loss: accuracy and top-5 of classes; squared error, absolute error and R2 of numbers."""

from collections.abc import Sequence

import torch
from torch import Tensor

from mbtrain.losses.contract import ignored_in

Pairs = Sequence[tuple[Tensor, Tensor]]


class ClassScores:
    """Accuracy (and top-5 in evaluation) of outputs [n, classes, ...] against targets [n, ...]."""

    of_iteration = ("accuracy",)

    def __init__(self, *, ignore_index: int | None = None) -> None:
        self._ignore_index = ignore_index

    def per_iteration(self, pairs: Pairs, sizes: Sequence[int]) -> list[tuple[Tensor, Tensor]]:
        """(sums, counts) of each score for iterations of `sizes` targets, from all their outputs and targets."""
        ignored = ignored_in(pairs[0][1], self._ignore_index)
        # A view of each of 64 tensors costs more than what is computed of them all.
        is_flat = pairs[0][1].dim() == 1
        target = torch.cat([target if is_flat else target.reshape(-1) for _, target in pairs])
        if pairs[0][0].dim() == 2 and len({output.shape[1] for output, _ in pairs}) == 1:
            # The same as argmax, in two thirds of its time on a CPU.
            guess = torch.cat([output for output, _ in pairs]).max(1).indices
        else:
            guess = torch.cat([output.argmax(1).reshape(-1) for output, _ in pairs])
        is_valid = None if ignored is None else target != ignored
        hits = (guess == target) if is_valid is None else (guess == target) & is_valid
        counts = target.new_tensor(sizes) if is_valid is None else by_iteration(is_valid, sizes)
        return [(by_iteration(hits, sizes), counts)]

    def sums(self, output: Tensor, target: Tensor) -> Tensor:
        """[count, hits, top-5 hits] of one batch, float64, on the device."""
        ignored = ignored_in(target, self._ignore_index)
        is_valid = None if ignored is None else target != ignored
        hit = output.argmax(1) == target
        five = output.topk(min(5, output.shape[1]), dim=1).indices
        near = (five == target.unsqueeze(1)).any(1)
        if is_valid is None:
            count = torch.full((), target.numel(), device=target.device)
        else:
            hit, near, count = hit & is_valid, near & is_valid, is_valid.sum()
        return torch.stack([count, hit.sum(), near.sum()]).double()

    def results(self, sums: Tensor, num_outputs: int) -> dict[str, float]:
        """The scores from the total of `sums`; top-5 only where there are more than five classes."""
        count, hits, near = sums.tolist()
        scores = {"accuracy": hits / count if count else float("nan")}
        return scores | ({"top5": near / count} if num_outputs > 5 and count else {})


class NumberScores:
    """Mean squared and absolute error, and R2, of outputs [n] or [n, k] against targets of that shape."""

    of_iteration = ("mae",)

    def per_iteration(self, pairs: Pairs, sizes: Sequence[int]) -> list[tuple[Tensor, Tensor]]:
        """(sums, counts) of the absolute error for iterations of `sizes` targets."""
        errors = torch.cat([(output.reshape(target.shape) - target).abs().reshape(-1) for output, target in pairs])
        return [(by_iteration(errors, sizes), torch.tensor(sizes, device=errors.device))]

    def sums(self, output: Tensor, target: Tensor) -> Tensor:
        """[count, squared, absolute, ...] of one batch, float64: errors, and the targets' sums and squares."""
        target = target.double().flatten(1) if target.dim() > 1 else target.double()[:, None]
        error = output.double().reshape(target.shape) - target
        parts = [target.new_full((1,), len(target)), error.square().sum()[None], error.abs().sum()[None]]
        return torch.cat([*parts, target.sum(0), target.square().sum(0)])

    def results(self, sums: Tensor, num_outputs: int) -> dict[str, float]:
        """The scores from the total of `sums`; R2 against the mean of these targets, over all numbers together."""
        count, squared, absolute = sums[:3].tolist()
        total, squares = sums[3:].chunk(2)
        spread = float((squares - total.square() / count).sum())
        width = len(total)
        r2 = {"r2": 1 - squared / spread} if spread > 0 else {}
        return {"mse": squared / count / width, "mae": absolute / count / width} | r2


Scores = ClassScores | NumberScores


def by_iteration(values: Tensor, sizes: Sequence[int]) -> Tensor:
    """Sums of the consecutive runs of `sizes` in `values`."""
    if len(set(sizes)) == 1:
        return values.view(len(sizes), -1).sum(1)
    return torch.stack([part.sum() for part in values.split(list(sizes))])
