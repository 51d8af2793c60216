"""Stratified: every stretch of the order has the class proportions."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import chisquare

from mbtrain.plan.refused import Refused
from mbtrain.plan.stratified import Stratified, spread

class_counts = st.lists(st.integers(1, 60), min_size=1, max_size=12).map(np.array)
skewed_counts = st.lists(st.sampled_from([1, 2, 3, 7, 50, 400]), min_size=2, max_size=20).map(np.array)
any_counts = class_counts | skewed_counts


def deviations(row: np.ndarray, num_classes: int) -> np.ndarray:
    """Of each class among the first n of a row of classes, from n p_c, for n = 0, 1, ...; [n + 1, classes]."""
    counts = np.cumsum(row[:, None] == np.arange(num_classes), axis=0)
    off = counts - np.arange(1, len(row) + 1)[:, None] * counts[-1] / len(row)
    return np.vstack([np.zeros(num_classes), off])


def widest(row: np.ndarray, num_classes: int) -> float:
    """The largest deviation from n p_c in any n consecutive places: a difference of two prefixes."""
    off = deviations(row, num_classes)
    return float((off.max(0) - off.min(0)).max())


def by_chance(counts: np.ndarray) -> np.ndarray:
    """A row of these classes without any care."""
    return np.random.default_rng(0).permutation(np.repeat(np.arange(len(counts)), counts))


@given(any_counts)
def test_spread_has_every_class_as_often_as_asked(counts: np.ndarray) -> None:
    assert np.bincount(spread(counts), minlength=len(counts)).tolist() == counts.tolist()


@given(any_counts)
def test_prefixes_stay_within_tijdemans_bound(counts: np.ndarray) -> None:
    bound = 1 - 1 / (2 * max(len(counts) - 1, 1))
    assert np.abs(deviations(spread(counts), len(counts))).max() <= bound + 1e-9


@given(any_counts, st.integers(0, 2**32))
def test_stretches_stay_within_twice_that_bound_wherever_the_row_starts(counts: np.ndarray, turn: int) -> None:
    row = np.roll(spread(counts), turn % counts.sum())
    assert widest(row, len(counts)) <= 2 - 1 / max(len(counts) - 1, 1) + 1e-9


@given(st.integers(1, 300), st.integers(1, 300))
def test_two_classes_stay_within_one_in_any_stretch(first: int, second: int) -> None:
    assert widest(spread(np.array([first, second])), 2) <= 1 + 1e-9


@given(st.integers(1, 30), st.integers(1, 30))
def test_classes_of_equal_counts_come_by_turns(num_classes: int, count: int) -> None:
    row = spread(np.full(num_classes, count)).reshape(count, num_classes)
    assert (row == row[0]).all() and sorted(row[0]) == list(range(num_classes))


def test_almost_every_mini_batch_is_as_exact_as_integers_allow() -> None:
    # Counts as a held-out split of ten classes leaves them: of all windows of 32, count by count.
    counts = np.array([178, 182, 177, 183, 181, 182, 181, 179, 174, 180])

    def share_off(row: np.ndarray) -> float:
        seen = np.lib.stride_tricks.sliding_window_view(row, 32)[..., None] == np.arange(10)
        return float((np.abs(seen.sum(1) - 32 * counts / counts.sum()) >= 1).mean())

    assert share_off(spread(counts)) < 0.01 < 0.4 < share_off(by_chance(counts))


LABELS = by_chance(np.array([31, 7, 3, 56]))
order = Stratified(seed=3, labels=LABELS)


@pytest.mark.parametrize("epoch", [0, 1, 9])
def test_every_stretch_of_an_epoch_keeps_the_bound(epoch: int) -> None:
    assert widest(LABELS[order(epoch)], 4) <= 2 - 1 / 3 < widest(LABELS, 4)


def test_labels_may_have_gaps_and_any_integer_type() -> None:
    gaps = np.array([0, 5, 1000, 1000], dtype=np.int16)[LABELS]
    same = Stratified(seed=3, labels=np.array([0, 1, 2, 2])[LABELS])
    np.testing.assert_array_equal(Stratified(seed=3, labels=gaps)(4), same(4))


def test_every_sample_is_equally_likely_at_every_place() -> None:
    labels = np.array([0, 0, 0, 1, 1, 2])
    orders = np.array([Stratified(seed=5, labels=labels)(epoch) for epoch in range(3000)])
    for place in range(6):
        assert chisquare(np.bincount(orders[:, place], minlength=6)).pvalue > 1e-4


def test_members_of_a_class_are_in_every_order_equally_often() -> None:
    labels = np.array([0, 1, 0, 1, 0, 1])
    firsts = [tuple(order[labels[order] == 0]) for order in map(Stratified(seed=5, labels=labels), range(3000))]
    _, counts = np.unique(firsts, axis=0, return_counts=True)
    assert len(counts) == 6 and chisquare(counts).pvalue > 1e-4


def test_without_labels_it_is_refused() -> None:
    with pytest.raises(Refused, match="sampler=stratified: needs a class for each sample"):
        Stratified(seed=0, labels=None)
