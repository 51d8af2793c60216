"""The cut of a mini-batch into BN groups, micro-batches and ranks."""

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from mbtrain.plan.batch import (
    MicroBatch,
    Share,
    bn_groups,
    cut,
    interleaved,
    micro_size_of,
    num_equal,
    usable_micro_size,
)
from mbtrain.plan.refused import Refused

sizes = st.integers(1, 400)
ranks = st.integers(1, 9)


def groups_of(shares: tuple[Share, ...]) -> list[int]:
    return [size for share in shares for micro_batch in share.micro_batches for size in micro_batch.groups]


def edges_of(shares: tuple[Share, ...]) -> list[tuple[int, int]]:
    return [(one.start, one.stop) for share in shares for one in share.micro_batches]


@given(sizes, sizes)
def test_bn_groups_sum_to_the_mini_batch(size: int, group_size: int) -> None:
    assert sum(bn_groups(size, group_size)) == size


@given(sizes, sizes)
def test_all_bn_groups_but_the_last_have_the_group_size(size: int, group_size: int) -> None:
    assert set(bn_groups(size, group_size)[:-1]) <= {group_size}


@given(sizes, sizes)
def test_last_bn_group_is_at_most_one_over_the_group_size(size: int, group_size: int) -> None:
    assert bn_groups(size, group_size)[-1] <= group_size + 1


@given(sizes.filter(lambda n: n > 1), st.integers(2, 400))
def test_no_bn_group_of_one_where_there_are_two_samples(size: int, group_size: int) -> None:
    assert 1 not in bn_groups(size, group_size)


@pytest.mark.parametrize(
    ("size", "group_size", "groups"),
    [
        (1, 32, (1,)),
        (32, 32, (32,)),
        (33, 32, (33,)),
        (34, 32, (32, 2)),
        (64, 32, (32, 32)),
        (65, 32, (32, 33)),
        (100, 32, (32, 32, 32, 4)),
        (3, 1, (1, 1, 1)),
    ],
)
def test_bn_groups_of(size: int, group_size: int, groups: tuple[int, ...]) -> None:
    assert bn_groups(size, group_size) == groups


@given(sizes, st.none() | sizes, st.none() | sizes, ranks)
def test_shares_of_any_number_of_ranks_partition_the_mini_batch(
    size: int, micro_size: int | None, group_size: int | None, num_ranks: int
) -> None:
    assume(micro_size is None or group_size is None or group_size <= micro_size)
    shares = cut(size, micro_size=micro_size, group_size=group_size, num_ranks=num_ranks)
    covered = [index for start, stop in edges_of(shares) for index in range(start, stop)]
    assert len(shares) == num_ranks
    assert covered == list(range(size))
    assert sum(share.size for share in shares) == size


@given(sizes, sizes, ranks)
def test_micro_batches_without_batch_norm_are_never_over_micro_size(size: int, micro_size: int, num_ranks: int) -> None:
    shares = cut(size, micro_size=micro_size, num_ranks=num_ranks)
    assert max(stop - start for start, stop in edges_of(shares)) <= micro_size


@given(sizes, sizes, sizes, ranks)
def test_micro_batches_are_over_micro_size_by_the_joined_sample_only(
    size: int, micro_size: int, group_size: int, num_ranks: int
) -> None:
    assume(group_size <= micro_size)
    shares = cut(size, micro_size=micro_size, group_size=group_size, num_ranks=num_ranks)
    for share in shares:
        for one in share.micro_batches:
            has_joined = bool(one.groups) and one.groups[-1] == min(group_size, size) + 1
            assert one.size <= micro_size + has_joined


@given(sizes, sizes, sizes)
def test_micro_batches_are_cut_at_group_boundaries(size: int, micro_size: int, group_size: int) -> None:
    assume(group_size <= micro_size)
    (share,) = cut(size, micro_size=micro_size, group_size=group_size)
    boundaries = {0, *np.cumsum(bn_groups(size, min(group_size, size))).tolist()}
    assert {edge for one in share.micro_batches for edge in (one.start, one.stop)} <= boundaries
    assert all(sum(one.groups) == one.size for one in share.micro_batches)


@given(sizes, sizes, sizes, ranks)
def test_statistics_depend_on_neither_micro_size_nor_ranks(
    size: int, micro_size: int, group_size: int, num_ranks: int
) -> None:
    assume(group_size <= micro_size)
    shares = cut(size, micro_size=micro_size, group_size=group_size, num_ranks=num_ranks)
    assume(not shares[0].is_synchronised)
    assert groups_of(shares) == list(bn_groups(size, min(group_size, size)))


@given(sizes, sizes, ranks)
def test_statistics_are_synchronised_where_a_group_is_larger_than_a_ranks_share(
    size: int, group_size: int, num_ranks: int
) -> None:
    shares = cut(size, group_size=group_size, num_ranks=num_ranks)
    is_larger = num_ranks > 1 and min(group_size, size) > -(-size // num_ranks)
    assert {share.is_synchronised for share in shares} == {is_larger}


def test_without_batch_norm_nothing_is_synchronised() -> None:
    assert not any(share.is_synchronised for share in cut(64, num_ranks=4))


@given(sizes, ranks)
def test_ranks_differ_by_one_sample_at_most_where_the_cut_is_free(size: int, num_ranks: int) -> None:
    shares = [share.size for share in cut(size, num_ranks=num_ranks)]
    assert max(shares) - min(shares) <= 1


def test_one_micro_batch_without_a_micro_size() -> None:
    assert cut(100)[0].micro_batches == (MicroBatch(0, 100),)


def test_micro_size_is_rounded_down_to_whole_groups() -> None:
    assert [one.size for one in cut(64, micro_size=30, group_size=8)[0].micro_batches] == [24, 24, 16]


def test_micro_size_larger_than_the_mini_batch_is_one_micro_batch() -> None:
    assert edges_of(cut(10, micro_size=64)) == [(0, 10)]


@pytest.mark.parametrize(("micro_size", "group_size", "usable"), [(30, 8, 24), (32, 8, 32), (8, 8, 8), (9, 1, 9)])
def test_usable_micro_size_is_whole_groups(micro_size: int, group_size: int, usable: int) -> None:
    assert usable_micro_size(micro_size, group_size) == usable


def test_group_larger_than_micro_size_is_refused_naming_the_usual_practice() -> None:
    with pytest.raises(Refused, match=r"batch_norm.group_size=64 is larger.*set batch_norm.group_size=32"):
        usable_micro_size(32, 64)


def test_cut_never_lets_a_group_exceed_the_micro_size_unsaid() -> None:
    with pytest.raises(Refused, match="larger than batch.micro_size=16"):
        cut(20, micro_size=16, group_size=32)


@given(sizes, st.integers(1, 50), ranks)
def test_accumulate_gives_at_most_that_many_micro_batches(size: int, accumulate: int, num_ranks: int) -> None:
    micro_size = micro_size_of(size=size, accumulate=accumulate, num_ranks=num_ranks)
    shares = cut(size, micro_size=micro_size, num_ranks=num_ranks)
    assert max(len(share.micro_batches) for share in shares) <= accumulate


@given(st.integers(2, 12), st.integers(2, 12), st.integers(0, 5))
def test_interleaved_order_makes_equal_groups_a_free_reshape(num_groups: int, group_size: int, tail: int) -> None:
    assume(tail != 1 and tail <= group_size)
    groups = (group_size,) * num_groups + ((tail,) if tail else ())
    order = interleaved(groups)
    assert order is not None and sorted(order) == list(range(sum(groups)))
    k = num_equal(groups)
    owner = np.repeat(np.arange(len(groups)), groups)[order]  # [n]
    columns = owner[: k * group_size].reshape(group_size, k)
    assert (columns == np.arange(k)).all()


def test_interleaved_keeps_the_order_within_a_group() -> None:
    assert interleaved((3, 3, 2)) == [0, 3, 1, 4, 2, 5, 6, 7]


@pytest.mark.parametrize("groups", [(5,), (4, 2), (2, 3), ()])
def test_nothing_to_interleave_in(groups: tuple[int, ...]) -> None:
    assert interleaved(groups) is None


@pytest.mark.parametrize(("groups", "count"), [((4,), 1), ((4, 4), 2), ((4, 4, 2), 2), ((4, 5), 1)])
def test_number_of_equal_leading_groups(groups: tuple[int, ...], count: int) -> None:
    assert num_equal(groups) == count
