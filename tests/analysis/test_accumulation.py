"""The accumulation law against its algebra, and what is advised where the answer is known."""

import itertools
import math

import numpy as np
import pytest

from mbtrain.analysis.accumulation import Way, critical_range, law, parts_of, verdict

SIZES = (16, 32, 64, 128, 256, 512, 1024)


def ways(*, once: float, sample: float, direct: float = 1.0) -> list[Way]:
    """Every size, in every cut; a pass over b samples takes `sample` b, one over a whole mini-batch `direct` times."""
    return [
        Way(size, micro, size * sample * (direct if size == micro else 1.0) + once)
        for size, micro in itertools.product(SIZES, SIZES)
        if micro <= size
    ]


def test_accumulating_pays_exactly_where_the_law_says() -> None:
    random = np.random.default_rng(0)
    for _ in range(500):
        once, passes, critical = np.exp(random.normal(size=3) * 2)
        micro_size, number = int(random.integers(1, 64)), int(random.integers(2, 32))
        step = Way(micro_size, micro_size, passes + once)
        accumulated = Way(number * micro_size, micro_size, number * passes + once)
        pays = once / passes > number * micro_size / critical
        assert (accumulated.cost(critical) < step.cost(critical)) == pays
        assert law(accumulated, step, (critical, critical)).pays == pays


def test_law_tells_the_two_sides() -> None:
    found = law(Way(256, 32, 3.3), Way(32, 32, 0.5), (100.0, 1000.0))
    assert found.once_share == pytest.approx(0.1 / 0.4)
    assert (found.needed, found.pays) == ((2.56, 0.256), False)


def test_law_between_its_ends_is_not_told() -> None:
    assert law(Way(64, 32, 1.2), Way(32, 32, 0.8), (32.0, 320.0)).pays is None


def test_parts_are_found_again() -> None:
    parts = parts_of(ways(once=0.3, sample=0.01))
    assert parts.once == pytest.approx(0.3)
    assert parts.micro_batch == pytest.approx({size: 0.01 * size for size in SIZES})


def test_best_size_is_the_root_of_critical_size_and_fixed_cost() -> None:
    # t(B) = t_0 + c B: B_time = sqrt(B_crit t_0 / c)
    found = verdict(ways(once=0.64, sample=0.01), 400.0, 400.0)
    assert found.low.best.batch_size in (128, 256) and math.sqrt(400 * 0.64 / 0.01) == 160
    assert found.is_told and found.accumulate is False


def test_without_a_fixed_cost_the_smallest_mini_batch_is_best() -> None:
    found = verdict(ways(once=0.0, sample=0.01), 50.0, 50.0)
    assert (found.advised.batch_size, found.accumulate) == (16, False)


def test_accumulation_is_advised_where_large_pieces_are_slow_and_updates_dear() -> None:
    slow = [way for way in ways(once=2.0, sample=0.01, direct=4.0) if way.micro_size >= 32]
    slow = [Way(w.batch_size, w.micro_size, w.seconds if w.is_accumulated or w.batch_size > 32 else 2.32) for w in slow]
    found = verdict(slow, 2000.0, 4000.0)
    assert found.accumulate is True and found.advised.micro_size in (32, 64, 128, 256, 512)
    assert found.advised.is_accumulated


def test_ends_that_disagree_tell_no_verdict() -> None:
    # At 40 stepping on every 32 is best, at 4000 accumulating is; one piece of more than 32 does not come in.
    some = [way for way in ways(once=0.32, sample=0.01) if way.micro_size == 32]
    found = verdict(some, 40.0, 4000.0)
    assert (found.low.pays, found.high.pays) == (False, True)
    assert found.accumulate is None and not found.is_told


def test_advised_way_loses_least_at_the_worse_end() -> None:
    # Against the best at the low and the high end: 1 and 1.49, 1.3 and 1.3, 4.98 and 1. The first has the best mean.
    some = [Way(64, 64, 32.0), Way(128, 128, 55.47), Way(1024, 1024, 300.1)]
    found = verdict(some, 64.0, 6400.0)
    assert (found.low.best, found.high.best, found.advised) == (some[0], some[2], some[1])
    assert found.loss == pytest.approx(1.3, abs=0.01)
    assert not found.is_told


def test_range_of_the_critical_size_is_half_to_ten_times_the_noise_scale() -> None:
    assert critical_range(124.0) == (62.0, 1240.0)
