"""The order in which samples of similar length stand together (`sampler=length_bucketed`)."""

import numpy as np
from numpy.typing import NDArray

from mbtrain.plan.order import Indices, generator
from mbtrain.plan.refused import Refused


class LengthBucketed:
    """Each sample once, in buckets of `bucket_size` samples of similar length, the buckets in random order.

    The samples are shuffled, cut into pools of `pool_size` buckets, sorted by length within a pool and cut into
    buckets. The larger the pool, the more alike the lengths and the less random the mini-batches: 1 is a plain
    reshuffle, and where the pool holds everything, only the order of the buckets and of equal lengths is left to
    chance. The samples that fill no bucket are drawn at random from all and come last, so that the buckets stay
    mini-batches and `batch.drop_last` leaves out no length more than another.
    """

    def __init__(
        self,
        *,
        num_samples: int,
        seed: int,
        lengths: NDArray[np.integer] | None,
        bucket_size: int | str,
        pool_size: int = 50,
    ) -> None:
        if lengths is None:
            raise Refused(
                "sampler=length_bucketed: needs a length for each sample, and the data set gives none: "
                "take sampler=reshuffle, or give your Dataset an attribute lengths"
            )
        self._seed, self._lengths = seed, lengths
        self._bucket_size = num_samples if bucket_size == "all" else min(int(bucket_size), num_samples)
        self._pool_size = pool_size * self._bucket_size

    def __call__(self, epoch: int) -> Indices:
        """Indices of `epoch`, shape [num_samples]."""
        random = generator(self._seed, epoch)
        drawn = random.permutation(len(self._lengths))
        num_full = len(drawn) // self._bucket_size * self._bucket_size
        full, rest = drawn[:num_full], drawn[num_full:]
        pools = np.arange(num_full) // self._pool_size
        buckets = full[np.lexsort((self._lengths[full], pools))].reshape(-1, self._bucket_size)
        return np.concatenate([random.permutation(buckets).reshape(-1), rest])
