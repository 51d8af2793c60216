"""Batch norm over BN groups, four ways: forward and backward of a small layer, as ratios to plain batch norm."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from mbtrain.norm.groups import BnGroups, GroupBatchNorm
from timing.pairs import Peer, alternated, load, summary
from timing.span import DEVICE, Seconds, now, settle

BATCH_SIZE, GROUP_SIZE, CHANNELS, PIXELS, REPEATS = 256, 32, 32, 14, 10
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


def measured(*, rounds: int, tell: Callable[[str], None]) -> dict[str, Any]:
    """The table: the norm alone, and behind a 3x3 convolution with a ReLU after it."""
    before = load()
    tables = {}
    for name, wrap in {"norm alone": lambda norm: norm, "convolution, norm, ReLU": _layer}.items():
        tell(f"batch norm, {name}")
        peers = {way: _peer(wrap(make())) for way, make in WAYS.items()}
        pairs = alternated(_peer(wrap(nn.BatchNorm2d(CHANNELS))), peers, rounds=rounds, tell=tell)
        tables[name] = {way: summary(values) for way, values in pairs.items()}
    shape = {"batch_size": BATCH_SIZE, "group_size": GROUP_SIZE, "channels": CHANNELS, "pixels": PIXELS}
    return {"shape": shape, "rounds": rounds, "load": {"before": before, "after": load()}, "tables": tables}


def _layer(norm: nn.Module) -> nn.Module:
    return nn.Sequential(nn.Conv2d(CHANNELS, CHANNELS, 3, padding=1, bias=False), norm, nn.ReLU())


def _peer(layer: nn.Module) -> Peer:
    layer.to(DEVICE).train()
    x = torch.randn(BATCH_SIZE, CHANNELS, PIXELS, PIXELS, device=DEVICE, requires_grad=True)
    wanted = [x, *layer.parameters()]
    direction = torch.randn_like(x)

    def seconds() -> Seconds:
        settle()
        torch.autograd.grad(layer(x), wanted, direction)
        started = now()
        for _ in range(REPEATS):
            torch.autograd.grad(layer(x), wanted, direction)
        return now().since(started, iterations=REPEATS)

    return seconds
