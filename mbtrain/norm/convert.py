"""Replaces the batch-norm layers of any model by what `batch_norm=` names."""

import math
from collections.abc import Callable

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from mbtrain.norm.groups import BnGroups, FrozenBatchNorm, GroupBatchNorm
from mbtrain.norm.renorm import BatchRenorm
from mbtrain.plan.refused import Refused

KINDS = ("batch", "renorm", "group_norm", "layer_norm", "frozen", "none")


def convert(
    model: nn.Module, kind: str, groups: BnGroups, *, momentum: float | None = None, channels_per_group: int = 16
) -> nn.Module:
    """`model` with every batch-norm layer replaced (in place; the model itself where it is such a layer).

    `kind` is one of KINDS; `momentum` None keeps each layer's own. Group norm: arXiv 1803.08494.
    """
    make = _maker(kind, groups, momentum, channels_per_group)
    if isinstance(model, _BatchNorm):
        return make(model)
    replaced: dict[int, tuple[nn.Module, nn.Module]] = {}
    for module in list(model.modules()):
        # Not named_children: a layer that stands in two places is to be one new layer in both.
        for name, child in list(module._modules.items()):
            if isinstance(child, _BatchNorm) and not isinstance(child, GroupBatchNorm):
                _, new = replaced.setdefault(id(child), (child, make(child)))
                setattr(module, name, new)
    return model


def _maker(
    kind: str, groups: BnGroups, momentum: float | None, channels_per_group: int
) -> Callable[[_BatchNorm], nn.Module]:
    def group_norm(layer: _BatchNorm, num_groups: int) -> nn.Module:
        new = nn.GroupNorm(num_groups, layer.num_features, layer.eps, layer.affine)
        # The scale and shift that the model chose to start from, such as 0 at the end of a residual block.
        new.weight, new.bias = layer.weight, layer.bias
        return new

    makers: dict[str, Callable[[_BatchNorm], nn.Module]] = {
        "batch": lambda layer: GroupBatchNorm(layer, groups, momentum=layer.momentum if momentum is None else momentum),
        "renorm": lambda layer: BatchRenorm(layer, groups, momentum=layer.momentum if momentum is None else momentum),
        "frozen": lambda layer: FrozenBatchNorm(layer, groups, momentum=layer.momentum),
        "group_norm": lambda layer: group_norm(layer, _num_groups(layer.num_features, channels_per_group)),
        "layer_norm": lambda layer: group_norm(layer, 1),
        "none": lambda layer: nn.Identity(),
    }
    if kind not in makers:
        raise Refused(f"batch_norm.kind={kind}: must be one of {', '.join(KINDS)}")
    return makers[kind]


def _num_groups(num_features: int, channels_per_group: int) -> int:
    """The number of groups of about `channels_per_group` channels that divides `num_features`."""
    return math.gcd(num_features, max(1, num_features // channels_per_group))
