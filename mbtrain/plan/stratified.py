"""The order whose every stretch has the class proportions (`sampler=stratified`)."""

from heapq import heappop, heappush

import numpy as np
from numpy.typing import NDArray

from mbtrain.plan.classes import Classes
from mbtrain.plan.order import Indices, generator


class Stratified:
    """Each sample once; any n consecutive samples hold n p_c of class c, give or take less than 2.

    p_c is the share of class c. The row of classes (`spread`) starts at a random place each epoch, and which member of
    a class stands at which of its places is drawn anew: every sample is equally likely at every place, so the mean over
    any mini-batch has the mean over the training set as its expectation.
    """

    def __init__(self, *, seed: int, labels: NDArray[np.integer] | None) -> None:
        self._seed, self._classes = seed, Classes(labels, name="stratified")
        self._places = np.argsort(spread(self._classes.counts), kind="stable")  # class by class

    def __call__(self, epoch: int) -> Indices:
        """Indices of `epoch`, shape [num_samples]."""
        random = generator(self._seed, epoch)
        order = np.empty(len(self._places), dtype=np.int64)
        turn = random.integers(len(order))
        order[(self._places + turn) % len(order)] = self._classes.shuffled(random)
        return order


def spread(counts: NDArray[np.integer]) -> NDArray[np.int64]:
    """A row of classes, class c `counts[c]` times, each spread as evenly as can be; shape [sum of counts].

    Among the first n places class c stands n p_c times, give or take at most 1 - 1/(2(k - 1)) for k classes: no smaller
    bound holds for all counts (Tijdeman, The chairman assignment problem, Discrete Mathematics 32, 1980). So any
    stretch, one that runs over the end and goes on at the start too, is off by at most 2 - 1/(k - 1). Two classes are
    off by at most 1, and classes of equal counts come by turns, as exactly as integers allow.

    The bound gives the j-th place of a class a first and a last position; of what may come now, what must come soonest
    does. A million places take about a second.

    >>> spread(np.array([3, 2, 1])).tolist()
    [0, 1, 0, 2, 1, 0]
    """
    total, num_classes = int(counts.sum()), len(counts)
    classes = np.repeat(np.arange(num_classes), counts)
    before = np.arange(total) - np.repeat(np.cumsum(counts) - counts, counts)  # of the same class
    # In units of 1 / parts, in which the bound is parts - 1, all is whole.
    parts = 2 * max(num_classes - 1, 1)
    scale = parts * counts[classes]
    first = -(-(before * parts + 1) * total // scale)
    last = (before * parts + parts - 1) * total // scale + 1
    urgency = np.lexsort(((before + 1 - 1 / parts) / counts[classes], last))  # ties go by class
    return classes[urgency[_soonest(first, np.argsort(urgency))]]


def _soonest(first: NDArray[np.int64], ranks: NDArray[np.int64]) -> NDArray[np.int64]:
    """The rank taken at each position 1, 2, ...: the lowest of those whose `first` position has come."""
    arrival = np.argsort(first, kind="stable")
    arrivals = ranks[arrival].tolist()
    num_arrived = np.searchsorted(first[arrival], np.arange(1, len(first) + 1), side="right").tolist()
    waiting: list[int] = []
    taken, start = [], 0
    for stop in num_arrived:
        for rank in arrivals[start:stop]:
            heappush(waiting, rank)
        start = stop
        taken.append(heappop(waiting))
    return np.array(taken)
