"""One iteration of a plan: which samples of which epoch make its mini-batch."""

from typing import NamedTuple


class Iteration(NamedTuple):
    """One update: `index` counts from 0, `start` is its first sample's place in the epoch's order.

    `batch_size` is the size in force, `size` what the mini-batch holds: fewer in the ragged tail of an epoch.
    """

    index: int  # pyright: ignore[reportIncompatibleMethodOverride] (hides the tuple method that nobody needs here)
    epoch: int
    start: int
    size: int
    samples_before: int
    is_last_of_epoch: bool
    batch_size: int
    # Only where a batch schedule meets batch.drop_last: the samples that the epochs before left out, and that this
    # iteration leaves out by ending its epoch. Durations count them as gone past, samples_seen does not.
    left_out_before: int = 0
    left_out: int = 0

    @property
    def samples_after(self) -> int:
        """The samples gone past once it is done: what Durations are measured in."""
        return self.samples_before + self.size + self.left_out

    @property
    def samples_seen(self) -> int:
        """The samples that went into updates once it is done."""
        return self.samples_before + self.size - self.left_out_before
