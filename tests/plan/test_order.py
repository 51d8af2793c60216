"""Orders of an epoch's samples."""

from collections.abc import Callable

import numpy as np
import pytest

from mbtrain.plan.order import Reshuffle, Sequential, ShuffleOnce, WithReplacement, checked
from mbtrain.plan.refused import Refused

N = 97
Maker = Callable[..., Callable[[int], np.ndarray]]
drawn = pytest.mark.parametrize("maker", [Reshuffle, ShuffleOnce, WithReplacement])
permuted = pytest.mark.parametrize(
    "order", [Reshuffle(num_samples=N, seed=3), ShuffleOnce(num_samples=N, seed=3), Sequential(num_samples=N)]
)


@permuted
@pytest.mark.parametrize("epoch", [0, 1, 7])
def test_each_sample_comes_once_an_epoch(order: Callable[[int], np.ndarray], epoch: int) -> None:
    assert sorted(order(epoch)) == list(range(N))


@drawn
def test_an_order_depends_on_seed_and_epoch_alone(maker: Maker) -> None:
    order, again = maker(num_samples=N, seed=3), maker(num_samples=N, seed=3)
    np.random.seed(0)
    order(9)
    order(0)
    np.testing.assert_array_equal(order(5), again(5))


@drawn
def test_another_seed_is_another_order(maker: Maker) -> None:
    assert (maker(num_samples=N, seed=3)(0) != maker(num_samples=N, seed=4)(0)).any()


@drawn
def test_seed_zero_is_a_seed(maker: Maker) -> None:
    np.testing.assert_array_equal(maker(num_samples=N, seed=0)(1), maker(num_samples=N, seed=0)(1))


@pytest.mark.parametrize("maker", [Reshuffle, WithReplacement])
def test_another_epoch_is_another_order(maker: Maker) -> None:
    order = maker(num_samples=N, seed=3)
    assert (order(0) != order(1)).any()


def test_shuffle_once_repeats_its_order() -> None:
    order = ShuffleOnce(num_samples=N, seed=3)
    np.testing.assert_array_equal(order(0), order(8))
    assert (order(0) != np.arange(N)).any()


def test_sequential_is_the_data_sets_own_order() -> None:
    np.testing.assert_array_equal(Sequential(num_samples=N)(4), np.arange(N))


def test_draws_with_replacement_see_the_expected_share() -> None:
    # E[share] = 1 - (1 - 1/n)^n; the variance of the number seen is below n / 4, so 5 sigma of the mean of 400 epochs.
    order = WithReplacement(num_samples=N, seed=3)
    share = np.mean([len(set(order(epoch).tolist())) / N for epoch in range(400)])
    assert abs(share - (1 - (1 - 1 / N) ** N)) < 5 * 0.5 / np.sqrt(N * 400)


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
