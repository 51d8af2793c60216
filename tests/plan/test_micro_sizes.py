"""Which micro sizes are candidates, and which one is in force when."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mbtrain.plan.batch import bn_groups
from mbtrain.plan.micro_sizes import MicroSizes, cut_at, halved, halvings

SIZES, GROUPS = st.integers(1, 3000), st.none() | st.integers(1, 300)


@given(SIZES, GROUPS)
def test_candidates_go_from_the_whole_mini_batch_down_to_one_group(size: int, group_size: int | None) -> None:
    found = halvings(size, group_size)
    assert found[0] == size and found == sorted(set(found), reverse=True)
    assert found[-1] <= (group_size or 1) + 1
    assert all(one % (group_size or 1) == 0 for one in found[1:])


@given(SIZES, GROUPS)
def test_each_candidate_has_half_the_groups_of_the_one_before(size: int, group_size: int | None) -> None:
    found = halvings(size, group_size)
    counts = [len(bn_groups(one, group_size or 1)) for one in found]
    assert all(half == -(-count // 2) for count, half in zip(counts, counts[1:], strict=False))


@given(SIZES, GROUPS)
def test_each_candidate_cuts_the_mini_batch_into_smaller_parts(size: int, group_size: int | None) -> None:
    largest = [
        max(one.size for one in cut_at(size, micro, group_size=group_size)) for micro in halvings(size, group_size)
    ]
    assert largest[0] == size and all(after < before for before, after in zip(largest, largest[1:], strict=False))


@given(SIZES, st.integers(1, 300), st.integers(1, 4000))
def test_groups_do_not_depend_on_the_micro_size(size: int, group_size: int, micro_size: int) -> None:
    groups = [one for micro in cut_at(size, max(micro_size, group_size), group_size=group_size) for one in micro.groups]
    assert tuple(groups) == bn_groups(size, min(group_size, size))


@pytest.mark.parametrize(("size", "group_size"), [(1, None), (32, 32), (33, 32), (14, 16), (1, 16)])
def test_one_group_is_not_halved(size: int, group_size: int | None) -> None:
    assert halved(size, group_size) is None


def test_size_in_force_is_the_smallest_that_was_begun() -> None:
    sizes = MicroSizes(64)
    sizes.halve(10, 32)
    sizes.halve(10, 16)
    sizes.halve(4, 32)  # an iteration done again after a resume, with less memory than before
    assert [sizes.at(one) for one in (1, 3, 4, 9, 10, 11)] == [64, 64, 32, 32, 16, 16]


def test_sizes_come_back_from_what_is_kept() -> None:
    sizes = MicroSizes(64, [[10, 32]])
    kept = sizes.as_chosen()
    assert kept == {"micro_size": 64, "halvings": [[10, 32]]}
    assert MicroSizes(64).as_chosen() == {"micro_size": 64}
