"""Length-bucketed: samples of similar length together, no more order than that."""

import numpy as np
import pytest
from scipy.stats import chisquare

from mbtrain.plan.length_bucketed import LengthBucketed
from mbtrain.plan.refused import Refused

LENGTHS = np.random.default_rng(0).geometric(0.05, size=1003)


def bucketed(pool_size: int, *, bucket_size: int | str = 10, lengths: np.ndarray = LENGTHS) -> LengthBucketed:
    return LengthBucketed(
        num_samples=len(lengths), seed=3, lengths=lengths, bucket_size=bucket_size, pool_size=pool_size
    )


def padding(order: np.ndarray) -> float:
    """The share of padding where mini-batches of 10 are padded to their longest."""
    batches = LENGTHS[order[:1000]].reshape(-1, 10)
    return float(1 - batches.sum() / (10 * batches.max(1).sum()))


def test_a_pool_of_everything_gives_slices_of_the_sorted_lengths() -> None:
    order = bucketed(1000)(0)
    buckets = LENGTHS[order[:1000]].reshape(-1, 10)
    by_length = buckets[np.lexsort((buckets[:, -1], buckets[:, 0]))]
    assert by_length.reshape(-1).tolist() == sorted(LENGTHS[order[:1000]])


def test_buckets_of_a_pool_come_in_random_order() -> None:
    shortest = LENGTHS.argmin()  # of its bucket the first; ties go by chance
    order = bucketed(1000, lengths=np.where(np.arange(1003) == shortest, 0, LENGTHS))
    places = np.array([np.flatnonzero(order(epoch) == shortest)[0] // 10 for epoch in range(1000)])
    assert chisquare(np.histogram(places[places < 100], bins=10, range=(0, 100))[0]).pvalue > 1e-4


def test_larger_pools_pad_less() -> None:
    shares = [np.mean([padding(bucketed(size)(epoch)) for epoch in range(5)]) for size in (1, 4, 20, 100)]
    assert shares == sorted(shares, reverse=True) and shares[-1] < 0.1 < 0.5 < shares[0]


def test_pools_are_drawn_anew_each_epoch() -> None:
    order = bucketed(5)
    first, second = ({frozenset(one) for one in order(epoch)[:1000].reshape(-1, 10).tolist()} for epoch in (0, 1))
    assert len(first & second) < 5


def test_the_ragged_end_is_any_sample_whatever_its_length() -> None:
    ends = np.concatenate([bucketed(100)(epoch)[-3:] for epoch in range(2000)])
    tenths = np.argsort(np.argsort(LENGTHS, kind="stable")) * 10 // len(LENGTHS)
    assert chisquare(np.bincount(tenths[ends]), 6000 * np.bincount(tenths) / len(LENGTHS)).pvalue > 1e-4


@pytest.mark.parametrize("bucket_size", ["all", 1003, 5000])
def test_a_bucket_of_everything_is_sorted_by_length(bucket_size: int | str) -> None:
    assert LENGTHS[bucketed(1, bucket_size=bucket_size)(0)].tolist() == sorted(LENGTHS)


def test_without_lengths_it_is_refused() -> None:
    with pytest.raises(Refused, match="sampler=length_bucketed: needs a length for each sample"):
        LengthBucketed(num_samples=3, seed=0, lengths=None, bucket_size=2)
