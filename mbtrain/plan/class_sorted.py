"""The order in which the classes come one after the other (`sampler=class_sorted`)."""

import numpy as np
from numpy.typing import NDArray

from mbtrain.plan.classes import Classes
from mbtrain.plan.order import Indices, generator


class ClassSorted:
    """Each sample once, class after class, within a class in a new random order every epoch.

    The classes come in the order of their labels, or in a new random one every epoch with `shuffle_classes`.
    """

    def __init__(self, *, seed: int, labels: NDArray[np.integer] | None, shuffle_classes: bool = False) -> None:
        self._seed, self._classes = seed, Classes(labels, name="class_sorted")
        self._shuffles_classes = shuffle_classes

    def __call__(self, epoch: int) -> Indices:
        """Indices of `epoch`, shape [num_samples]."""
        random = generator(self._seed, epoch)
        samples = self._classes.shuffled(random)
        if not self._shuffles_classes:
            return samples
        places = random.permutation(len(self._classes.counts))
        return samples[np.argsort(places[self._classes.codes[samples]], kind="stable")]
