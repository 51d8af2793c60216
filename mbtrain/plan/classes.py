"""The classes of the training samples, as orders that go by class need them."""

import numpy as np
from numpy.typing import NDArray

from mbtrain.plan.order import Indices
from mbtrain.plan.refused import Refused


def known(labels: NDArray[np.integer] | None, *, name: str) -> NDArray[np.integer]:
    """The labels; Refused, naming the order `name`, where there are none."""
    if labels is None:
        raise Refused(
            f"sampler={name}: needs a class for each sample, and the data set gives none: take sampler=reshuffle, "
            "or give your Dataset an attribute targets of whole numbers"
        )
    return labels


class Classes:
    """The classes that occur among `labels` [num_samples]; Refused, naming the order `name`, where these are None.

    counts: of samples, in the order of the labels, none of them 0.

    >>> Classes(np.array([7, 2, 7]), name="stratified").counts
    array([1, 2])
    """

    def __init__(self, labels: NDArray[np.integer] | None, *, name: str) -> None:
        labels = known(labels, name=name)
        _, inverse, self.counts = np.unique(labels, return_inverse=True, return_counts=True)
        # Numbers of few bytes: numpy sorts those in linear time.
        self.codes = inverse.astype(np.min_scalar_type(len(self.counts)))

    def shuffled(self, random: np.random.Generator) -> Indices:
        """All samples, class by class, within a class in random order; shape [num_samples]."""
        drawn = random.permutation(len(self.codes))
        return drawn[np.argsort(self.codes[drawn], kind="stable")]

    def members(self) -> list[Indices]:
        """The samples of each class, ascending."""
        return np.split(np.argsort(self.codes, kind="stable"), np.cumsum(self.counts)[:-1])
