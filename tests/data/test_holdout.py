import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mbtrain.data.holdout import hold_out, largest_remainder, num_held_out

LABELS = np.repeat([0, 1, 2], [50, 30, 20])


def test_the_shares_of_classes_are_exact():
    held = hold_out(100, LABELS, num_held=10, key=(0, 0))
    assert np.bincount(LABELS[held]).tolist() == [5, 3, 2]


def test_the_split_depends_on_the_seed():
    first, second = (hold_out(100, LABELS, num_held=10, key=(seed, 0)) for seed in (0, 1))
    assert first.tolist() != second.tolist()


def test_the_split_is_the_same_for_ever():
    # Philox's raw words are fixed by numpy's stream policy; these are its values for the key (0, 0).
    assert hold_out(20, None, num_held=5, key=(0, 0)).tolist() == [0, 2, 9, 11, 17]


def test_test_and_validation_are_drawn_from_streams_of_their_own():
    first, second = (hold_out(100, None, num_held=10, key=(0, stream)) for stream in (0, 1))
    assert first.tolist() != second.tolist()


def test_a_class_is_drawn_at_random():
    held = np.concatenate([hold_out(100, LABELS, num_held=10, key=(seed, 0)) for seed in range(400)])
    counts = np.bincount(held, minlength=100)
    # Each sample is held 40 times of 400 on average; five standard deviations.
    assert counts.min() > 40 - 5 * 6 and counts.max() < 40 + 5 * 6


@given(st.lists(st.integers(1, 1000), min_size=1, max_size=12), st.floats(0, 1))
def test_largest_remainder_sums_to_the_total_and_is_off_by_less_than_one(counts, fraction):
    total = int(fraction * sum(counts))
    shares = largest_remainder(np.array(counts), total)
    assert shares.sum() == total
    for share, count in zip(shares.tolist(), counts, strict=True):
        assert abs(share * sum(counts) - total * count) < sum(counts)


@given(st.integers(2, 300), st.data())
def test_as_many_as_asked_are_held_out_each_once(num_samples, data):
    num_held = data.draw(st.integers(1, num_samples - 1))
    labels = data.draw(st.none() | st.lists(st.integers(0, 4), min_size=num_samples, max_size=num_samples))
    held = hold_out(num_samples, None if labels is None else np.array(labels), num_held=num_held, key=(7, 0))
    assert len(held) == num_held
    assert len(set(held.tolist())) == num_held
    assert held.min() >= 0 and held.max() < num_samples


@pytest.mark.parametrize(("num_samples", "fraction", "num_held"), [(1797, 0.2, 359), (1438, 0.1, 144), (10, 0, 0)])
def test_the_number_held_out_is_the_nearest_whole_one(num_samples, fraction, num_held):
    assert num_held_out(num_samples, fraction, name="val_fraction") == num_held
