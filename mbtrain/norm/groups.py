"""Batch norm over BN groups: consecutive samples of the mini-batch that share statistics (ghost batch norm).

Ghost batch norm: Hoffer et al., arXiv 1705.08741. Its running statistics here are those that a loop over the groups
would leave, and the groups are exactly those of `mbtrain.plan.batch.bn_groups`.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm

from mbtrain.plan.batch import num_equal


class BnGroups:
    """The sizes of the BN groups of the micro-batch that is in the model now, shared by all of its layers.

    Equal leading groups are interleaved (`mbtrain.plan.batch.interleaved`): sample i of group j stands at i * k + j.
    """

    def __init__(self) -> None:
        self.sizes: tuple[int, ...] = ()


class GroupBatchNorm(_BatchNorm):
    """nn.BatchNorm1d, 2d or 3d whose training statistics are per BN group; its state_dict is theirs."""

    def __init__(self, layer: _BatchNorm, groups: BnGroups, *, momentum: float | None) -> None:
        super().__init__(layer.num_features, layer.eps, momentum, layer.affine, layer.track_running_stats)
        self.weight, self.bias = layer.weight, layer.bias
        for name in ("running_mean", "running_var", "num_batches_tracked"):
            self.register_buffer(name, getattr(layer, name))
        self.groups = groups
        self.train(layer.training)

    def _check_input_dim(self, input: Tensor) -> None:
        if input.dim() < 2:
            raise ValueError(f"batch norm expects [batch, channels, ...], got {list(input.shape)}")

    def forward(self, input: Tensor) -> Tensor:
        """Normalise [n, channels, ...]; in training each BN group by its own mean and biased variance."""
        sizes = self.groups.sizes
        if not self.training or len(sizes) < 2:
            return super().forward(input)
        if input.shape[0] != sum(sizes):
            raise ValueError(f"batch norm got {input.shape[0]} samples where the BN groups hold {sum(sizes)}")
        k = num_equal(sizes)
        equal = k * sizes[0]
        output, means, variances = self._normalise(input[:equal], k)
        if equal < input.shape[0]:
            tail, mean, variance = self._normalise(input[equal:], 1)
            output = torch.cat([output, tail])
            means, variances = torch.cat([means, mean]), torch.cat([variances, variance])
        if self.track_running_stats:
            self._track(means, variances)
        return output

    def _normalise(self, x: Tensor, k: int) -> tuple[Tensor, Tensor, Tensor]:
        """(output, means [k, channels], unbiased variances [k, channels]) of k interleaved groups of one size."""
        channels = x.shape[1]
        view = x.reshape(x.shape[0] // k, k * channels, *x.shape[2:])
        kept = torch.promote_types(x.dtype, torch.float32)
        means, variances = (torch.zeros(k * channels, dtype=kept, device=x.device) for _ in range(2))
        weight = None if self.weight is None else self.weight.repeat(k)
        bias = None if self.bias is None else self.bias.repeat(k)
        # Momentum 1 makes F.batch_norm leave this batch's own statistics in the buffers.
        output = F.batch_norm(view, means, variances, weight, bias, True, 1.0, self.eps)
        return output.reshape(x.shape), means.view(k, channels), variances.view(k, channels)

    @torch.no_grad()
    def _track(self, means: Tensor, variances: Tensor) -> None:
        """Running statistics as a loop over the groups would leave them, in closed form."""
        assert self.running_mean is not None and self.running_var is not None and self.num_batches_tracked is not None
        num_groups = len(means)
        if self.momentum is None:
            before = self.num_batches_tracked.double()
            old = before / (before + num_groups)
            new = ((1 - old) / num_groups).expand(num_groups)
        else:
            ages = torch.arange(num_groups - 1, -1, -1, device=means.device, dtype=torch.float64)
            old, new = (1 - self.momentum) ** num_groups, self.momentum * (1 - self.momentum) ** ages
        for running, values in ((self.running_mean, means), (self.running_var, variances)):
            running.mul_(old).add_((new.to(values.dtype)[:, None] * values).sum(0))
        self.num_batches_tracked += num_groups


class FrozenBatchNorm(GroupBatchNorm):
    """Batch norm whose statistics stay what the weights brought; scale and shift are still trained."""

    def forward(self, input: Tensor) -> Tensor:
        """Normalise by the running statistics, in training too."""
        return F.batch_norm(input, self.running_mean, self.running_var, self.weight, self.bias, False, 0.0, self.eps)


def has_batch_norm(model: nn.Module) -> bool:
    """Whether some layer computes statistics over the batch in training."""
    return any(isinstance(m, _BatchNorm) and not isinstance(m, FrozenBatchNorm) for m in model.modules())
