"""The order in which every class comes equally often (`sampler=balanced`)."""

import numpy as np
from numpy.typing import NDArray

from mbtrain.plan.classes import Classes
from mbtrain.plan.order import Indices


class Balanced:
    """Rounds of one sample from every class, the classes of a round in random order; an epoch has num_samples draws.

    A class is gone through, in random order, before any of its samples comes again. Rounds and passes go on over the
    ends of epochs: epoch e is the draws e * num_samples and on of one endless row, so that the rule holds across them
    too, and every class has the same number of draws in the long run. In an epoch the numbers differ by 2 at most.
    """

    def __init__(self, *, num_samples: int, seed: int, labels: NDArray[np.integer] | None) -> None:
        self._num_samples, self._seed = num_samples, seed
        self._members = Classes(labels, name="balanced").members()

    def __call__(self, epoch: int) -> Indices:
        """Indices of `epoch`, shape [num_samples]."""
        num_classes = len(self._members)
        start, stop = epoch * self._num_samples, (epoch + 1) * self._num_samples
        rounds = range(start // num_classes, -(-stop // num_classes))
        drawn = [self._of_class(number, rounds) for number in range(num_classes)]
        turns = permutations(rounds, num_classes, key=(self._seed, num_classes))
        order = np.take_along_axis(np.stack(drawn, axis=1), turns, axis=1).reshape(-1)
        skipped = start - rounds.start * num_classes
        return order[skipped : skipped + self._num_samples]

    def _of_class(self, number: int, rounds: range) -> Indices:
        """The sample of a class in each of `rounds`."""
        members = self._members[number]
        passes = range(rounds.start // len(members), -(-rounds.stop // len(members)))
        row = members[permutations(passes, len(members), key=(self._seed, number))].reshape(-1)
        skipped = rounds.start - passes.start * len(members)
        return row[skipped : skipped + len(rounds)]


def permutations(rows: range, size: int, *, key: tuple[int, int]) -> NDArray[np.int64]:
    """Random permutations [rows, size], each a function of `key`, its own number and `size` alone.

    >>> bool((permutations(range(3, 9), 5, key=(0, 1))[2:4] == permutations(range(5, 7), 5, key=(0, 1))).all())
    True
    """
    # Philox counts in steps of four words, and can be set to any of them.
    steps = -(-size // 4)
    words = np.random.Philox(key=np.array(key, dtype=np.uint64)).advance(rows.start * steps)
    return words.random_raw(len(rows) * 4 * steps).reshape(len(rows), -1)[:, :size].argsort(axis=1)
