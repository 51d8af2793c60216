"""Batch renormalisation (Ioffe, arXiv 1702.03275): batch norm that leans on its running statistics.

A BN group's normalised values are moved towards what evaluation would make of them:

    y = gamma ((x - mean) / std * r + d) + beta
    r = clip(std / running_std, 1 / r_max, r_max),   d = clip((mean - running_mean) / running_std, -d_max, d_max)

without a gradient through r and d. Where nothing is clipped, y is the output of evaluation.
"""

import torch
from torch import Tensor

from mbtrain.norm.groups import GroupBatchNorm


class BatchRenorm(GroupBatchNorm):
    """Batch renorm over BN groups; its state_dict is that of nn.BatchNorm.

    All groups of a mini-batch are compared with the running statistics from before it, so that neither micro-batches
    nor the groups' order change a value. `BnGroups.begin` says where a mini-batch begins; without it every forward pass
    is one.
    """

    # The running statistics from before the mini-batch, and the number of that mini-batch.
    _before: tuple[Tensor, Tensor] | None = None
    _begun = 0

    def forward(self, input: Tensor) -> Tensor:
        """Normalise [n, channels, ...]; in training each BN group by its own statistics, corrected."""
        if not self.training:
            return super().forward(input)
        sizes = self.groups.sizes
        return self._by_groups(input, sizes if len(sizes) > 1 else (input.shape[0],))

    def _by_groups(self, input: Tensor, sizes: tuple[int, ...]) -> Tensor:
        if self.running_mean is not None and self.running_var is not None:
            begun = self.groups.num_begun
            if not begun or begun != self._begun:
                self._begun, self._before = begun, (self.running_mean.clone(), self.running_var.clone())
        return super()._by_groups(input, sizes)

    def _scale_and_shift(self, view: Tensor, k: int) -> tuple[Tensor | None, Tensor | None]:
        scale, shift = super()._scale_and_shift(view, k)
        if self._before is None:
            return scale, shift
        r, d = self._correction(view, k)
        if scale is None:
            return r, d
        return scale * r, scale * d if shift is None else torch.addcmul(shift, scale, d)

    @torch.no_grad()
    def _correction(self, view: Tensor, k: int) -> tuple[Tensor, Tensor]:
        """(r, d), each [k * channels]."""
        assert self._before is not None
        running_mean, running_std = self._before[0], (self._before[1] + self.eps).sqrt()
        values = view.to(torch.promote_types(view.dtype, torch.float32))
        variance, mean = torch.var_mean(values, [0, *range(2, view.dim())], correction=0)
        limit, shift = self.groups.r_max, self.groups.d_max
        r = ((variance + self.eps).sqrt() / running_std.repeat(k)).clamp(1 / limit, limit)
        d = ((mean - running_mean.repeat(k)) / running_std.repeat(k)).clamp(-shift, shift)
        return r, d
