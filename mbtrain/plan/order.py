"""Orders: which sample comes when in an epoch (`sampler=`). A function of seed and epoch alone, drawn with numpy."""

import numpy as np
from numpy.typing import NDArray

from mbtrain.plan.refused import Refused

Indices = NDArray[np.int64]


def generator(seed: int, epoch: int) -> np.random.Generator:
    """The random numbers of one epoch's order."""
    return np.random.Generator(np.random.Philox(np.random.SeedSequence([seed, epoch])))


class Reshuffle:
    """A new random order every epoch, each sample once (random reshuffling; arXiv 2006.05988)."""

    def __init__(self, *, num_samples: int, seed: int) -> None:
        self._num_samples, self._seed = num_samples, seed

    def __call__(self, epoch: int) -> Indices:
        """Indices of `epoch`, shape [num_samples]."""
        return generator(self._seed, epoch).permutation(self._num_samples)


class ShuffleOnce:
    """One random order, the same in every epoch."""

    def __init__(self, *, num_samples: int, seed: int) -> None:
        self._order = generator(seed, 0).permutation(num_samples)

    def __call__(self, epoch: int) -> Indices:
        """Indices of `epoch`, shape [num_samples]."""
        return self._order


class WithReplacement:
    """Independent draws: a sample may come twice in an epoch, or not at all (share seen about 1 - 1/e)."""

    def __init__(self, *, num_samples: int, seed: int) -> None:
        self._num_samples, self._seed = num_samples, seed

    def __call__(self, epoch: int) -> Indices:
        """Indices of `epoch`, shape [num_samples]."""
        return generator(self._seed, epoch).integers(self._num_samples, size=self._num_samples)


class Sequential:
    """The order in which the data set has its samples."""

    def __init__(self, *, num_samples: int) -> None:
        self._num_samples = num_samples

    def __call__(self, epoch: int) -> Indices:
        """Indices of `epoch`, shape [num_samples]."""
        return np.arange(self._num_samples)


def checked(indices: object, *, num_samples: int, length: int | None, epoch: int) -> Indices:
    """`indices` of a user's order as int64; Refused unless whole, in range, and as many as in the first epoch."""
    order = np.asarray(indices)
    if order.ndim != 1 or not np.issubdtype(order.dtype, np.integer) or not len(order):
        raise Refused(f"sampler: the order of epoch {epoch} is not a list of whole numbers")
    if order.min() < 0 or order.max() >= num_samples:
        raise Refused(f"sampler: the order of epoch {epoch} has an index outside 0..{num_samples - 1}")
    if length is not None and len(order) != length:
        raise Refused(f"sampler: the order of epoch {epoch} has {len(order)} indices, the first epoch {length}")
    return order.astype(np.int64, copy=False)
