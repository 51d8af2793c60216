"""Losses of numbers: squared and absolute error."""

from torch import Tensor, nn

from mbtrain.plan.refused import Refused


def _difference(output: Tensor, target: Tensor) -> Tensor:
    if output.dim() == target.dim() + 1 and output.shape[-1] == 1:
        output = output.squeeze(-1)
    if output.shape != target.shape:
        # Broadcasting [n, 1] against [n] would silently train on n * n differences.
        raise Refused(f"loss: outputs {list(output.shape)} do not match targets {list(target.shape)}")
    return (output - target).flatten(1) if output.dim() > 1 else (output - target)[:, None]


class MeanSquaredError(nn.Module):
    """The squared error of each sample, averaged over its numbers."""

    def forward(self, output: Tensor, target: Tensor) -> Tensor:
        """Values [n] from two tensors [n] or [n, k]."""
        return _difference(output, target).square().mean(1)


class MeanAbsoluteError(nn.Module):
    """The absolute error of each sample, averaged over its numbers."""

    def forward(self, output: Tensor, target: Tensor) -> Tensor:
        """Values [n] from two tensors [n] or [n, k]."""
        return _difference(output, target).abs().mean(1)
