"""Cross entropy of classes, with class weights, label smoothing and an ignored target index."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mbtrain.losses.contract import IGNORED, ignored_in, with_class_weights
from mbtrain.plan.refused import Refused


class CrossEntropy(nn.Module):
    """-log p(target) per sample or token, in nats; the mean is over the weights of the targets, as torch defines it.

    `class_weights` weighs each sample by its target's entry; a target equal to `ignore_index` (null: -100, where a
    sample has many targets) counts for nothing; `label_smoothing` mixes the target with the uniform distribution (arXiv
    1512.00567).
    """

    class_weights: Tensor | None

    def __init__(
        self,
        *,
        class_weights: Sequence[float] | None = None,
        label_smoothing: float = 0.0,
        ignore_index: int | None = None,
        num_outputs: int | None = None,
    ) -> None:
        super().__init__()
        if not 0 <= label_smoothing < 1:
            raise Refused(f"loss.label_smoothing={label_smoothing}: must be at least 0 and below 1")
        if class_weights is not None and (min(class_weights) < 0 or num_outputs not in (None, len(class_weights))):
            raise Refused(f"loss.class_weights={list(class_weights)}: must be {num_outputs} numbers, none below 0")
        self.label_smoothing, self.ignore_index = label_smoothing, ignore_index
        weights = None if class_weights is None else torch.tensor(class_weights, dtype=torch.float64)
        self.register_buffer("class_weights", weights, persistent=False)

    def forward(self, output: Tensor, target: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        """Values of the shape of `target`; output is [n, classes] or [n, classes, tokens]."""
        is_plain = self.ignore_index is None and self._buffers["class_weights"] is None
        if is_plain and output.dim() == 2 and target.dim() == 1:
            return F.cross_entropy(output, target, reduction="none", label_smoothing=self.label_smoothing)
        weight = None if self.class_weights is None else self.class_weights.to(output.dtype)
        ignored = ignored_in(target, self.ignore_index)
        rows, flat = (output, target) if output.dim() == 2 else (output.movedim(1, -1).flatten(0, -2), target.flatten())
        index = IGNORED if ignored is None else ignored
        values = F.cross_entropy(rows, flat, weight, None, index, None, "none", self.label_smoothing)
        values = values if rows is output else values.view(target.shape)
        return with_class_weights(values, target, weight, ignored)
