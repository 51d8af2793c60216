"""Micro sizes that `batch.micro_size=auto|fastest` may take, and the one in force at each iteration: integers only."""

from collections.abc import Sequence

from mbtrain.plan.batch import MicroBatch, bn_groups, cut


def halved(micro_size: int, group_size: int | None) -> int | None:
    """Half of `micro_size`, rounded up to whole BN groups (to samples, without batch norm); None where it is no less.

    Rounded up, so that the parts are as even as they can be: 5 groups become 3 and 2, never 2, 2 and 1.

    >>> halved(100, None), halved(160, 32), halved(32, 32)
    (50, 96, None)
    """
    unit = group_size or 1
    num_groups = len(bn_groups(micro_size, unit))
    half = -(-num_groups // 2)
    return half * unit if half < num_groups else None


def halvings(size: int, group_size: int | None) -> list[int]:
    """The candidates for a mini-batch of `size`: the whole of it first, then half after half down to one BN group.

    >>> halvings(100, 16)
    [100, 64, 32, 16]
    """
    found = [size]
    while (half := halved(found[-1], group_size)) is not None:
        found.append(half)
    return found


def cut_at(size: int, micro_size: int, *, group_size: int | None) -> tuple[MicroBatch, ...]:
    """A mini-batch of `size` cut at `micro_size`, in one piece where that is no less.

    >>> [micro.size for micro in cut_at(100, 64, group_size=16)], len(cut_at(100, 100, group_size=16))
    ([64, 36], 1)
    """
    return cut(size, micro_size=None if micro_size >= size else micro_size, group_size=group_size)[0].micro_batches


class MicroSizes:
    """The micro size that a run began with, and what it was halved to: (iteration, size), from that iteration on.

    Iterations count from 1, as in the log. A run that goes on from an earlier checkpoint does each iteration as it was
    done before.

    >>> sizes = MicroSizes(64, [(10, 32)])
    >>> sizes.at(9), sizes.at(10)
    (64, 32)
    """

    def __init__(self, first: int, halvings: Sequence[Sequence[int]] = ()) -> None:
        self.first = first
        self.halvings = [(int(iteration), int(size)) for iteration, size in halvings]

    def at(self, iteration: int) -> int:
        """The size in force."""
        return min([self.first, *(size for start, size in self.halvings if start <= iteration)])

    def halve(self, iteration: int, size: int) -> None:
        """From `iteration` on it is `size`."""
        self.halvings.append((iteration, size))

    def as_chosen(self) -> dict[str, object]:
        """What the run folder keeps of it, in plain values."""
        kept: dict[str, object] = {"micro_size": self.first}
        return kept | ({"halvings": [list(one) for one in self.halvings]} if self.halvings else {})
