"""The ways to make an update that advice compares: batch sizes, and for each the micro sizes that make it up."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

# The batch sizes looked at by default, and how many micro-batches a mini-batch is made of at most.
SMALLEST, LARGEST, MOST_MICRO_BATCHES = 16, 1024, 16


class Cut(NamedTuple):
    """A mini-batch of `batch_size` in micro-batches of `micro_size`: in one piece where they are the same."""

    batch_size: int
    micro_size: int

    @property
    def name(self) -> str:
        """For a folder."""
        return f"{self.batch_size}by{self.micro_size}"


def batch_sizes(own: int | str, num_samples: int) -> list[int]:
    """Powers of two that enclose the usual sizes and the user's own, and that itself, up to all samples.

    >>> batch_sizes(48, num_samples=300)
    [16, 32, 48, 64, 128, 256]
    >>> batch_sizes(4, num_samples=60_000)[0], batch_sizes(2048, num_samples=60_000)[-1]
    (4, 4096)
    """
    lowest, highest = SMALLEST, LARGEST
    own_sizes = {own} if isinstance(own, int) else set()
    for size in own_sizes:
        lowest = min(lowest, 2 ** (size.bit_length() - 1))
        highest = max(highest, 2 ** size.bit_length())
    powers = {2**power for power in range(lowest.bit_length() - 1, highest.bit_length())}
    return sorted(size for size in powers | own_sizes if size <= num_samples)


def cuts(sizes: Sequence[int], group_size: int | None) -> list[Cut]:
    """Each size at once, and in micro-batches of every smaller size that divides it; no micro-batch splits a BN group.

    >>> [cut.name for cut in cuts([16, 32, 48], None)]
    ['16by16', '32by32', '32by16', '48by48', '48by16']
    >>> [cut.name for cut in cuts([16, 32, 64], 32)]
    ['16by16', '32by32', '64by64', '64by32']
    """
    return [cut for size in sizes for cut in _of_size(size, sizes, group_size)]


def _of_size(size: int, sizes: Sequence[int], group_size: int | None) -> Iterator[Cut]:
    yield Cut(size, size)
    for micro_size in reversed(sizes):
        is_whole = group_size is None or micro_size % group_size == 0
        if micro_size < size <= micro_size * MOST_MICRO_BATCHES and size % micro_size == 0 and is_whole:
            yield Cut(size, micro_size)


def timing_config(base: Mapping[str, Any], cut: Cut, *, iterations: int, run_dir: str) -> dict[str, Any]:
    """The user's config for a run that is only timed: nothing is measured, validated or sent, nothing moves.

    Batch norm over the whole mini-batch becomes that over the micro-batch where there are several: what accumulation
    does to it.
    """
    is_split = cut.micro_size < cut.batch_size
    own = base["batch_norm"]["group_size"]
    return {
        **base,
        "duration": f"{iterations}it",
        "run_dir": run_dir,
        "resume": "auto",
        "probe": {},
        "tracker": {},
        "batch": base["batch"]
        | {"size": cut.batch_size, "micro_size": cut.micro_size if is_split else None}
        | {"accumulate": None, "drop_last": True},
        "batch_norm": base["batch_norm"] | {"group_size": cut.micro_size if is_split and own is None else own},
        # So small that the weights stay: the same work, and numbers that stay sane at every size.
        "optimizer": base["optimizer"] | {"lr": 1e-3 * base["optimizer"]["lr"]},
        "lr_schedule": {"_target_": "mbtrain.plan.schedule.Constant", "warmup": None},
        "scaling": {"_target_": "mbtrain.plan.scaling.Unscaled", "reference_size": None}
        | {"batch_norm_momentum": False, "weight_decay": False},
        "validate": base["validate"] | {"every": None, "best": None, "stop_at": None, "patience": None},
        "checkpoint": base["checkpoint"] | {"every": None},
        "trainer": base["trainer"] | {"progress": False},
    }
