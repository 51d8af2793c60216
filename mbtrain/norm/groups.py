"""Batch norm over BN groups: consecutive samples of the mini-batch that share statistics (ghost batch norm).

Ghost batch norm: Hoffer et al., arXiv 1705.08741. Its running statistics here are those that a loop over the groups
would leave, and the groups are exactly those of `mbtrain.plan.batch.bn_groups`.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm

from mbtrain.plan.batch import num_equal

# Samples seen -> (r_max, d_max).
Limits = Callable[[int], tuple[float, float]]


class BnGroups:
    """What the batch-norm layers of a model share: the BN groups of the micro-batch in it, and the run's place.

    Equal leading groups are interleaved (`mbtrain.plan.batch.interleaved`): sample i of group j stands at i * k + j.
    `half_life`, in samples, takes the place of the layers' momentum: a group of n samples weighs 1 - 2^(-n / half_life)
    in the running statistics. `example_weight` is that of a sample's own statistics in evaluation. `limits` are batch
    renorm's (r_max, d_max) as a function of samples seen.
    """

    def __init__(
        self,
        *,
        half_life: float | None = None,
        example_weight: float = 0.0,
        limits: Limits = lambda samples_seen: (1.0, 0.0),
    ) -> None:
        self.sizes: tuple[int, ...] = ()
        self.half_life, self.example_weight = half_life, example_weight
        self._limits = limits
        self.r_max, self.d_max = limits(0)
        # How often `begin` was called: what a layer keeps for the length of an iteration bears this number.
        self.num_begun = 0

    def begin(self, samples_seen: int) -> None:
        """An iteration begins, after so many samples of the run."""
        self.num_begun += 1
        self.r_max, self.d_max = self._limits(samples_seen)


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
        if not self.training:
            is_weighed = self.groups.example_weight > 0 and self.running_mean is not None
            return self._weighed(input) if is_weighed else super().forward(input)
        if len(sizes) > 1:
            return self._by_groups(input, sizes)
        if self.groups.half_life is not None:
            self.momentum = 1 - 0.5 ** (input.shape[0] / self.groups.half_life)
        return super().forward(input)

    def _weighed(self, input: Tensor) -> Tensor:
        """In evaluation: each sample by first and second moments mixed of its own and the running ones.

        Inference example weighing, Summers and Dinneen, arXiv 1906.03548, section 3.1.
        """
        assert self.running_mean is not None and self.running_var is not None
        alpha, shape = self.groups.example_weight, [1, -1] + [1] * (input.dim() - 2)
        pixels = list(range(2, input.dim()))
        own = input.mean(pixels, keepdim=True) if pixels else input
        own_square = input.square().mean(pixels, keepdim=True) if pixels else input.square()
        mean, square = self.running_mean.view(shape), (self.running_var + self.running_mean**2).view(shape)
        mean, square = alpha * own + (1 - alpha) * mean, alpha * own_square + (1 - alpha) * square
        output = (input - mean) * (square - mean**2 + self.eps).rsqrt()
        return output if self.weight is None else output * self.weight.view(shape) + self.bias.view(shape)

    def _by_groups(self, input: Tensor, sizes: tuple[int, ...]) -> Tensor:
        """Normalise groups of these sizes, the leading equal ones at once, and track their statistics."""
        if input.shape[0] != sum(sizes):
            raise ValueError(f"batch norm got {input.shape[0]} samples where the BN groups hold {sum(sizes)}")
        k = num_equal(sizes)
        equal = k * sizes[0]
        output = self._normalise(input[:equal], k)
        return output if equal == input.shape[0] else torch.cat([output, self._normalise(input[equal:], 1)])

    def _normalise(self, x: Tensor, k: int) -> Tensor:
        """The output of k interleaved groups of one size, whose statistics go into the running ones."""
        channels = x.shape[1]
        view = x.reshape(x.shape[0] // k, k * channels, *x.shape[2:])
        kept = torch.promote_types(x.dtype, torch.float32)
        means, variances = (torch.zeros(k * channels, dtype=kept, device=x.device) for _ in range(2))
        weight, bias = self._scale_and_shift(view, k)
        # Momentum 1 makes F.batch_norm leave this batch's own statistics in the buffers.
        output = F.batch_norm(view, means, variances, weight, bias, True, 1.0, self.eps)
        if self.track_running_stats:
            self._track(means.view(k, channels), variances.view(k, channels), view.shape[0])
        return output.reshape(x.shape)

    def _scale_and_shift(self, view: Tensor, k: int) -> tuple[Tensor | None, Tensor | None]:
        """What normalised `view` [n, k * channels, ...] is multiplied by and what is added, each [k * channels]."""
        weight = None if self.weight is None else self.weight.repeat(k)
        bias = None if self.bias is None else self.bias.repeat(k)
        return weight, bias

    @torch.no_grad()
    def _track(self, means: Tensor, variances: Tensor, group_size: int) -> None:
        """Running statistics as a loop over the groups would leave them, in closed form; both [groups, channels]."""
        assert self.running_mean is not None and self.running_var is not None and self.num_batches_tracked is not None
        num_groups = len(means)
        if self.groups.half_life is not None:
            self.momentum = 1 - 0.5 ** (group_size / self.groups.half_life)
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
