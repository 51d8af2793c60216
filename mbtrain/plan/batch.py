"""Cuts a mini-batch into BN groups, micro-batches and ranks: integers only.

A BN group is a run of consecutive samples that share batch-norm statistics. Groups come first and depend on the
mini-batch alone; micro-batches and ranks are cut at group boundaries, so they never change a statistic.
"""

from dataclasses import dataclass
from functools import lru_cache

from mbtrain.plan.refused import Refused


@dataclass(frozen=True)
class MicroBatch:
    """Samples [start, stop) of the mini-batch; `groups` are the sizes of its BN groups, empty without batch norm."""

    start: int
    stop: int
    groups: tuple[int, ...] = ()

    @property
    def size(self) -> int:
        """Number of samples."""
        return self.stop - self.start


@dataclass(frozen=True)
class Share:
    """What one rank gets: its micro-batches, and whether a BN group spans several ranks (synchronised statistics)."""

    micro_batches: tuple[MicroBatch, ...]
    is_synchronised: bool = False

    @property
    def size(self) -> int:
        """Number of samples of this rank."""
        return sum(micro_batch.size for micro_batch in self.micro_batches)


def micro_size_of(*, size: int, accumulate: int, num_ranks: int = 1) -> int:
    """The micro size that `batch.accumulate` stands for: ceil(size / (accumulate x ranks)).

    >>> micro_size_of(size=256, accumulate=8)
    32
    """
    return -(-size // (accumulate * num_ranks))


def bn_groups(size: int, group_size: int) -> tuple[int, ...]:
    """Sizes of the BN groups of a mini-batch: all `group_size` except the last; a last one of 1 joins the one before.

    >>> bn_groups(65, 32)
    (32, 33)
    """
    full, rest = divmod(size, group_size)
    groups = [group_size] * full + ([rest] if rest else [])
    if rest == 1 and full:
        groups[-2:] = [group_size + 1]
    return tuple(groups)


def usable_micro_size(micro_size: int, group_size: int) -> int:
    """`micro_size` rounded down to whole BN groups; Refused where not even one group fits."""
    if group_size > micro_size:
        raise Refused(
            f"batch_norm.group_size={group_size} is larger than batch.micro_size={micro_size}: "
            f"set batch_norm.group_size={micro_size} (the usual practice under accumulation) or raise the micro size"
        )
    return micro_size // group_size * group_size


@lru_cache(maxsize=1024)
def cut(
    size: int, *, micro_size: int | None = None, group_size: int | None = None, num_ranks: int = 1
) -> tuple[Share, ...]:
    """Cut a mini-batch of `size` samples into one Share a rank.

    `micro_size` None: one micro-batch a rank. `group_size` None: no batch norm, so any cut will do; the whole
    mini-batch as one group is `group_size=size`. A group larger than a rank's share is synchronised over the ranks.

    >>> [micro.size for micro in cut(100, micro_size=32)[0].micro_batches]
    [32, 32, 32, 4]
    """
    group = min(group_size, size) if group_size else None
    if group is None or (num_ranks > 1 and group > -(-size // num_ranks)):
        return _cut_freely(size, micro_size, num_ranks, is_synchronised=group is not None)
    groups = bn_groups(size, group)
    per_micro = len(groups) if micro_size is None else usable_micro_size(micro_size, group) // group
    shares, start = [], 0
    for count in _evenly(len(groups), num_ranks):
        mine, groups = groups[:count], groups[count:]
        shares.append(Share(_at_groups(start, mine, per_micro)))
        start += sum(mine)
    return tuple(shares)


def interleaved(groups: tuple[int, ...]) -> list[int] | None:
    """The order of a micro-batch's samples in which its equal BN groups are one free reshape; None where it is theirs.

    Sample i of group j stands at i * k + j for the k leading groups of equal size, so that `[g * k, C, ...]` viewed as
    `[g, k * C, ...]` has a channel per group and channel. A smaller last group stays behind them.
    """
    k = num_equal(groups)
    if k < 2:
        return None
    size, equal = groups[0], k * groups[0]
    return [j * size + i for i in range(size) for j in range(k)] + list(range(equal, sum(groups)))


def num_equal(groups: tuple[int, ...]) -> int:
    """How many leading groups have the size of the first (all, or all but the last)."""
    return len(groups) - (len(groups) > 1 and groups[-1] != groups[0])


def _evenly(total: int, parts: int) -> list[int]:
    """`total` things dealt to `parts` as evenly as integers allow, the larger counts first."""
    return [total // parts + (part < total % parts) for part in range(parts)]


def _cut_freely(size: int, micro_size: int | None, num_ranks: int, *, is_synchronised: bool) -> tuple[Share, ...]:
    shares, start = [], 0
    for count in _evenly(size, num_ranks):
        step = min(micro_size or count, count) or 1
        edges = [*range(start, start + count, step), start + count]
        micro_batches = tuple(MicroBatch(a, b) for a, b in zip(edges, edges[1:], strict=False))
        shares.append(Share(micro_batches, is_synchronised))
        start += count
    return tuple(shares)


def _at_groups(start: int, groups: tuple[int, ...], per_micro: int) -> tuple[MicroBatch, ...]:
    micro_batches = []
    for first in range(0, len(groups), per_micro):
        mine = groups[first : first + per_micro]
        micro_batches.append(MicroBatch(start, start + sum(mine), mine))
        start += sum(mine)
    return tuple(micro_batches)
