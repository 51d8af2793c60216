"""Balanced: every class equally often, and when a sample comes again."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import chisquare

from mbtrain.plan.balanced import Balanced, permutations
from mbtrain.plan.refused import Refused

LABELS = np.random.default_rng(0).permutation(np.repeat([0, 1, 2, 5], [61, 7, 3, 30]))  # 101 samples, 4 classes
COUNTS = {0: 61, 1: 7, 2: 3, 5: 30}


def balanced(labels: np.ndarray = LABELS) -> Balanced:
    return Balanced(num_samples=len(labels), seed=3, labels=labels)


def drawn(num_epochs: int, labels: np.ndarray = LABELS) -> np.ndarray:
    """The draws of the first epochs in a row."""
    return np.concatenate([balanced(labels)(epoch) for epoch in range(num_epochs)])


@given(st.lists(st.integers(1, 20), min_size=1, max_size=8), st.integers(0, 50))
def test_classes_differ_by_two_at_most_in_an_epoch(counts: list[int], epoch: int) -> None:
    labels = np.repeat(np.arange(len(counts)), counts)
    seen = np.bincount(labels[balanced(labels)(epoch)], minlength=len(counts))
    assert seen.max() - seen.min() <= 2 and seen.sum() == len(labels)


def test_rounds_of_one_sample_a_class_go_on_over_the_ends_of_epochs() -> None:
    rounds = LABELS[drawn(8)].reshape(-1, 4)  # 8 epochs of 101 draws: 202 rounds
    assert (np.sort(rounds, axis=1) == [0, 1, 2, 5]).all()


@pytest.mark.parametrize("label", COUNTS)
def test_a_class_is_gone_through_before_any_of_its_samples_comes_again(label: int) -> None:
    draws = drawn(40)
    mine, count = draws[LABELS[draws] == label], COUNTS[label]
    passes = [mine[start : start + count] for start in range(0, len(mine) - count + 1, count)]
    assert len(passes) == 1010 // count
    assert all(sorted(one) == np.flatnonzero(label == LABELS).tolist() for one in passes)


def test_the_passes_of_a_class_have_orders_of_their_own() -> None:
    draws = drawn(2)
    passes = draws[LABELS[draws] == 1][:49].reshape(7, 7)
    assert all((one != other).any() for one, other in pairwise(passes))


def test_classes_stand_in_random_order_within_a_round() -> None:
    rounds = np.searchsorted([0, 1, 2, 5], LABELS[drawn(80)].reshape(-1, 4))
    for place in range(4):
        assert chisquare(np.bincount(rounds[:, place])).pvalue > 1e-4


@pytest.mark.parametrize("size", [1, 2, 3, 4, 5, 9])
def test_a_permutation_depends_on_its_own_number_alone(size: int) -> None:
    whole = permutations(range(12), size, key=(7, 1))
    np.testing.assert_array_equal(whole[5:8], permutations(range(5, 8), size, key=(7, 1)))


def test_every_permutation_is_equally_likely() -> None:
    _, counts = np.unique(permutations(range(6000), 3, key=(2**63 - 1, 0)), axis=0, return_counts=True)
    assert len(counts) == 6 and chisquare(counts).pvalue > 1e-4


def test_another_key_is_another_permutation() -> None:
    row = permutations(range(1), 50, key=(7, 1))
    assert all((row != permutations(range(1), 50, key=key)).any() for key in [(8, 1), (7, 2)])


def test_without_labels_it_is_refused() -> None:
    with pytest.raises(Refused, match="sampler=balanced: needs a class for each sample"):
        Balanced(num_samples=3, seed=0, labels=None)
