"""Class-sorted: one class after the other."""

import numpy as np
import pytest
from scipy.stats import chisquare

from mbtrain.plan.class_sorted import ClassSorted
from mbtrain.plan.refused import Refused

LABELS = np.random.default_rng(0).permutation(np.repeat([0, 1, 4], [3, 20, 300]))


def test_classes_come_in_the_order_of_their_labels() -> None:
    assert LABELS[ClassSorted(seed=3, labels=LABELS)(2)].tolist() == sorted(LABELS)


def test_members_of_a_class_are_in_every_order_equally_often() -> None:
    orders = map(ClassSorted(seed=3, labels=LABELS), range(3000))
    _, counts = np.unique([order[:3] for order in orders], axis=0, return_counts=True)
    assert len(counts) == 6 and chisquare(counts).pvalue > 1e-4


def test_shuffled_classes_stay_together_and_come_in_every_order_equally_often() -> None:
    orders = map(ClassSorted(seed=3, labels=LABELS, shuffle_classes=True), range(3000))
    starts = [labels[np.flatnonzero(np.diff(labels, prepend=-1))] for labels in (LABELS[order] for order in orders)]
    assert all(len(start) == 3 for start in starts)
    _, counts = np.unique(starts, axis=0, return_counts=True)
    assert len(counts) == 6 and chisquare(counts).pvalue > 1e-4


def test_without_labels_it_is_refused() -> None:
    with pytest.raises(Refused, match="sampler=class_sorted: needs a class for each sample"):
        ClassSorted(seed=0, labels=None)
