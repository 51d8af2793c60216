"""Batch norm over BN groups, four ways: forward and backward of a small layer, as ratios to plain batch norm."""

from collections.abc import Callable
from itertools import count
from typing import Any

import torch
from torch import Tensor, nn

from mbtrain.norm.groups import BnGroups, GroupBatchNorm
from timing.pairs import Way, load, summary
from timing.span import DEVICE, Note, Peer, settle

BATCH_SIZE, GROUP_SIZE, CHANNELS, PIXELS = 256, 32, 32, 14
NUM_GROUPS = BATCH_SIZE // GROUP_SIZE


def interleaved_groups() -> nn.Module:
    """Ours: the samples come interleaved, so the groups are a reshape that copies nothing."""
    groups = BnGroups()
    groups.sizes = (GROUP_SIZE,) * NUM_GROUPS
    return GroupBatchNorm(nn.BatchNorm2d(CHANNELS), groups, momentum=0.1)


class CopiedGroups(nn.Module):
    """Samples in their own order: a transpose that copies, there and back, around the same reshape."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = interleaved_groups()

    def forward(self, x: Tensor) -> Tensor:
        """Normalise [n, channels, ...]."""
        parts = x.reshape(NUM_GROUPS, GROUP_SIZE, *x.shape[1:]).transpose(0, 1)
        output = self.norm(parts.reshape(x.shape)).reshape(GROUP_SIZE, NUM_GROUPS, *x.shape[1:])
        return output.transpose(0, 1).reshape(x.shape)


class LoopedGroups(nn.BatchNorm2d):
    """A Python loop over the groups."""

    def forward(self, input: Tensor) -> Tensor:
        """Normalise [n, channels, height, width]."""
        return torch.cat([super(LoopedGroups, self).forward(part) for part in input.split(GROUP_SIZE)])


WAYS: dict[str, Callable[[], nn.Module]] = {
    "interleaved samples, free reshape (ours)": interleaved_groups,
    "samples in order, copying transpose": CopiedGroups,
    "Python loop over groups": lambda: LoopedGroups(CHANNELS),
}


def measured(way: Way) -> dict[str, Any]:
    """The table: the norm alone, and behind a 3x3 convolution with a ReLU after it."""
    before = load()
    tables = {}
    for name, wrap in {"norm alone": lambda norm: norm, "convolution, norm, ReLU": _layer}.items():
        way.tell(f"batch norm, {name}")
        peers = {which: _peer(make, wrap) for which, make in WAYS.items()}
        pairs = way.pairs(_peer(lambda: nn.BatchNorm2d(CHANNELS), wrap), peers)
        tables[name] = {which: summary(values) for which, values in pairs.items()}
    shape = {"batch_size": BATCH_SIZE, "group_size": GROUP_SIZE, "channels": CHANNELS, "pixels": PIXELS}
    return {"shape": shape, **way.described(), "load": {"before": before, "after": load()}, "tables": tables}


def _layer(norm: nn.Module) -> nn.Module:
    return nn.Sequential(nn.Conv2d(CHANNELS, CHANNELS, 3, padding=1, bias=False), norm, nn.ReLU())


def _peer(make: Callable[[], nn.Module], wrap: Callable[[nn.Module], nn.Module]) -> Peer:
    def train(note: Note) -> None:
        layer = wrap(make()).to(DEVICE).train()
        x = torch.randn(BATCH_SIZE, CHANNELS, PIXELS, PIXELS, device=DEVICE, requires_grad=True)
        wanted, direction = [x, *layer.parameters()], torch.randn_like(x)
        settle()
        for done in count():
            note(done)
            torch.autograd.grad(layer(x), wanted, direction)

    return train
