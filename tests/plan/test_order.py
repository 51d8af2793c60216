"""Orders of an epoch's samples; what all orders promise is in test_order_facts."""

import numpy as np
import pytest

from mbtrain.plan.order import Reshuffle, Sequential, ShuffleOnce, checked
from mbtrain.plan.refused import Refused

N = 97


def test_seed_zero_is_a_seed() -> None:
    np.testing.assert_array_equal(Reshuffle(num_samples=N, seed=0)(1), Reshuffle(num_samples=N, seed=0)(1))


def test_shuffle_once_repeats_its_order() -> None:
    order = ShuffleOnce(num_samples=N, seed=3)
    np.testing.assert_array_equal(order(0), order(8))
    assert (order(0) != np.arange(N)).any()


def test_sequential_is_the_data_sets_own_order() -> None:
    np.testing.assert_array_equal(Sequential(num_samples=N)(4), np.arange(N))


def test_every_place_of_an_order_is_uniform() -> None:
    order = Reshuffle(num_samples=5, seed=3)
    counts = np.zeros((5, 5))
    for epoch in range(2000):
        counts[np.arange(5), order(epoch)] += 1
    # 2000 draws at p = 1/5: sigma 17.9
    assert abs(counts - 400).max() < 5 * 17.9


def test_a_users_order_becomes_int64() -> None:
    assert checked(range(3), num_samples=3, length=None, epoch=0).dtype == np.int64


@pytest.mark.parametrize("bad", [[0.5, 1.0], [[0, 1]], [], ["a"], None, 3, [True]])
def test_an_order_that_is_no_list_of_whole_numbers_is_refused(bad: object) -> None:
    with pytest.raises(Refused, match="sampler: the order of epoch 2 is not a list of whole numbers"):
        checked(bad, num_samples=3, length=None, epoch=2)


@pytest.mark.parametrize("bad", [[0, 3], [-1, 0]])
def test_an_index_that_is_not_there_is_refused(bad: list[int]) -> None:
    with pytest.raises(Refused, match=r"has an index outside 0\.\.2"):
        checked(bad, num_samples=3, length=None, epoch=0)


def test_an_order_that_changes_its_length_is_refused() -> None:
    with pytest.raises(Refused, match="the order of epoch 1 has 2 indices, the first epoch 3"):
        checked([0, 1], num_samples=3, length=3, epoch=1)
