"""What each order promises, in one table, and the variance of a mini-batch's mean under it (FORMULAS A8)."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pytest
from scipy.stats import chi2

from mbtrain.plan.balanced import Balanced
from mbtrain.plan.class_sorted import ClassSorted
from mbtrain.plan.length_bucketed import LengthBucketed
from mbtrain.plan.order import Indices, Reshuffle, Sequential, ShuffleOnce, WithReplacement
from mbtrain.plan.stratified import Stratified, spread
from mbtrain.plan.weighted import Weighted

COUNTS = np.array([40, 20, 17, 3])
N, B = int(COUNTS.sum()), 16
random = np.random.default_rng(0)
LABELS = random.permutation(np.repeat(np.arange(4), COUNTS))
OFFERED: dict[str, Any] = {"labels": LABELS, "lengths": random.integers(1, 90, N)}
EVEN = {"columns": {"even": np.ones(N)}, "indices": np.arange(N), "weights": "even"}
Order = Callable[[int], Indices]


class Facts(NamedTuple):
    """An order, and what it promises."""

    make: Callable[[int], Order]  # from a seed
    is_each_once: bool
    is_random: bool = True
    is_new_each_epoch: bool = True


ORDERS = {
    "reshuffle": Facts(lambda seed: Reshuffle(num_samples=N, seed=seed), is_each_once=True),
    "shuffle_once": Facts(
        lambda seed: ShuffleOnce(num_samples=N, seed=seed), is_each_once=True, is_new_each_epoch=False
    ),
    "with_replacement": Facts(lambda seed: WithReplacement(num_samples=N, seed=seed), is_each_once=False),
    "sequential": Facts(
        lambda seed: Sequential(num_samples=N), is_each_once=True, is_random=False, is_new_each_epoch=False
    ),
    "stratified": Facts(lambda seed: Stratified(seed=seed, labels=LABELS), is_each_once=True),
    "balanced": Facts(lambda seed: Balanced(num_samples=N, seed=seed, labels=LABELS), is_each_once=False),
    "weighted": Facts(lambda seed: Weighted(seed=seed, labels=LABELS, **EVEN), is_each_once=False),
    "weighted once": Facts(
        lambda seed: Weighted(seed=seed, labels=LABELS, **EVEN, replacement=False), is_each_once=True
    ),
    "class_sorted": Facts(lambda seed: ClassSorted(seed=seed, labels=LABELS), is_each_once=True),
    "class_sorted shuffled": Facts(
        lambda seed: ClassSorted(seed=seed, labels=LABELS, shuffle_classes=True), is_each_once=True
    ),
    "length_bucketed": Facts(
        lambda seed: LengthBucketed(num_samples=N, seed=seed, lengths=OFFERED["lengths"], bucket_size=7, pool_size=3),
        is_each_once=True,
    ),
}
every = pytest.mark.parametrize("facts", ORDERS.values(), ids=ORDERS)


@every
def test_an_epoch_has_as_many_draws_as_there_are_samples(facts: Facts) -> None:
    assert [len(facts.make(3)(epoch)) for epoch in (0, 1, 7)] == [N, N, N]


@every
def test_each_sample_comes_once_where_that_is_promised(facts: Facts) -> None:
    assert all((len(set(facts.make(3)(epoch))) == N) == facts.is_each_once for epoch in (0, 1, 7))


@every
def test_an_epoch_is_a_function_of_seed_and_epoch_alone(facts: Facts) -> None:
    order, again = facts.make(3), facts.make(3)
    np.random.seed(0)
    order(9)
    order(0)
    np.testing.assert_array_equal(order(5), again(5))


@every
def test_another_seed_is_another_order_where_it_is_random(facts: Facts) -> None:
    assert (facts.make(0)(1) != facts.make(1)(1)).any() == facts.is_random


@every
def test_another_epoch_is_another_order_where_that_is_promised(facts: Facts) -> None:
    order = facts.make(3)
    assert (order(0) != order(1)).any() == facts.is_new_each_epoch


@pytest.mark.parametrize("name", ["with_replacement", "weighted"])
def test_even_draws_with_replacement_see_the_expected_share(name: str) -> None:
    # E[share] = 1 - (1 - 1/N)^N, about 1 - 1/e; the variance of the number seen is below N / 4: 5 sigma of the mean.
    order = ORDERS[name].make(3)
    share = np.mean([len(set(order(epoch))) / N for epoch in range(400)])
    assert abs(share - (1 - (1 - 1 / N) ** N)) < 5 * 0.5 / np.sqrt(N * 400)


# A quantity of the samples that has to do with their class, as a gradient has.
VALUES = np.array([0.0, 1.0, -2.0, 5.0])[LABELS] + random.standard_normal(N)
EPOCHS = 3000


def means(name: str, *, start: int) -> np.ndarray:
    """The mean of the mini-batch of B that begins at `start`, epoch by epoch; [EPOCHS]."""
    order = ORDERS[name].make(3)
    return np.array([VALUES[order(epoch)[start : start + B]].mean() for epoch in range(EPOCHS)])


def assert_variance(found: np.ndarray, expected: float) -> None:
    """Within the 0.9999 interval of a variance of EPOCHS normal values."""
    low, high = chi2.ppf([5e-5, 1 - 5e-5], EPOCHS - 1) / (EPOCHS - 1)
    assert low < found.var(ddof=1) / expected < high


WITHOUT = VALUES.var() / B * (N - B) / (N - 1)


@pytest.mark.parametrize("start", [0, 32, 64])
@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("reshuffle", WITHOUT),
        ("weighted once", WITHOUT),
        ("with_replacement", VALUES.var() / B),
        ("weighted", VALUES.var() / B),
    ],
)
def test_variance_of_a_mini_batchs_mean_is_a8s(name: str, expected: float, start: int) -> None:
    assert_variance(means(name, start=start), expected)


@pytest.mark.parametrize("name", ["reshuffle", "with_replacement", "stratified"])
@pytest.mark.parametrize("start", [0, 32, 64])
def test_a_mini_batchs_mean_has_the_training_sets_as_its_expectation(name: str, start: int) -> None:
    found = means(name, start=start)
    assert abs(found.mean() - VALUES.mean()) < 4 * found.std() / np.sqrt(EPOCHS)


def stratified_variance() -> float:
    """Of the mean of B stratified samples: that within the classes, and that of which classes there are."""
    of_class = [VALUES[label == LABELS] for label in range(4)]
    row = spread(COUNTS)
    taken = np.array([np.bincount(np.roll(row, turn)[:B], minlength=4) for turn in range(N)])  # [turns, classes]
    within = taken * (1 - taken / COUNTS) @ [values.var(ddof=1) for values in of_class]
    between = taken @ [values.mean() for values in of_class]
    return float(within.mean() + between.var()) / B**2


@pytest.mark.parametrize("start", [0, 32, 64])
def test_variance_of_a_stratified_mini_batchs_mean_is_that_of_its_strata(start: int) -> None:
    assert_variance(means("stratified", start=start), stratified_variance())


def test_stratified_has_less_variance_of_what_depends_on_the_class() -> None:
    assert stratified_variance() < 0.6 * WITHOUT


def test_epochs_that_see_each_sample_once_have_one_mean() -> None:
    for name, facts in ORDERS.items():
        scatter = np.std([VALUES[facts.make(3)(epoch)].mean() for epoch in range(20)])
        assert (scatter < 1e-12) == facts.is_each_once, name
