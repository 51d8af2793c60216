"""The norm of the mini-batch's gradient, as the update uses it."""

from collections.abc import Sequence

from torch import Tensor, nn

from mbtrain.optim.clip import global_norm


class GradientNorm:
    """`gradient/norm`: the global 2-norm of the mean gradient, after clipping."""

    def __call__(self, parameters: Sequence[nn.Parameter]) -> dict[str, Tensor]:
        """The norm, 0-d."""
        return {"gradient/norm": global_norm([parameter.grad for parameter in parameters])}
