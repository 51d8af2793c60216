"""The batch size in proportion to the noise scale: bounds, hysteresis, what is not determined."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mbtrain.plan.batch_schedule import Passes
from mbtrain.plan.duration import Duration
from mbtrain.plan.noise_average import NoiseAverage
from mbtrain.plan.proportional import NoiseScale
from mbtrain.plan.refused import Refused

HORIZON = Passes(6000, Duration.parse("2ep"))


def schedule(size: int = 32, **options: object) -> NoiseScale:
    found = NoiseScale(size=size, **options)  # pyright: ignore[reportArgumentType]
    assert found(HORIZON) == [(0, size)]
    return found


def seen(one: NoiseScale, scale: float) -> int | None:
    """Shown a noise scale whose past counts for nothing."""
    one.load({**one.state(), "average": NoiseAverage(1.0).state()})
    return one.see(dict(zip(one.reads, (scale, 1.0), strict=True)), samples_seen=0)


def test_it_moves_to_the_noise_scale_times_the_factor() -> None:
    one = schedule(factor=0.5)
    assert seen(one, 400.4) == 200 and seen(one, 1000.0) == 500 and seen(one, 200.0) == 100


def test_it_stays_within_least_and_most_which_are_batch_size_and_a_tenth_of_the_data() -> None:
    assert seen(schedule(), 1e6) == 600 and seen(schedule(most=100), 1e6) == 100
    one = schedule(64, least=16)
    assert seen(one, 1.0) == 16 and seen(schedule(), 1.0) is None
    assert schedule(most=100).most(HORIZON) == 100 and schedule(most=10_000).most(HORIZON) == 6000


@given(size=st.integers(16, 600), scale=st.floats(1, 1e5), hysteresis=st.floats(1.01, 10))
def test_it_moves_only_where_it_is_further_off_than_the_hysteresis(size: int, scale: float, hysteresis: float) -> None:
    one = schedule(size, least=16, hysteresis=hysteresis)
    wanted = min(max(round(scale), 16), max(600, size))
    moved = seen(one, scale)
    assert moved == (wanted if max(wanted / size, size / wanted) > hysteresis else None)
    # And from there it does not move again for the same.
    assert seen(one, scale) is None


@pytest.mark.parametrize("scale", [math.nan, math.inf, -5.0, 0.0])
def test_what_is_not_determined_moves_nothing_nor_do_other_results(scale: float) -> None:
    one = schedule()
    assert seen(one, scale) is None and one.see({"val/loss": 0.1}, samples_seen=0) is None


def test_its_state_goes_on() -> None:
    one, other = schedule(), schedule()
    estimates = [dict(zip(one.reads, (100.0 * k, 1.0), strict=True)) for k in range(1, 9)]
    found = [one.see(estimate, samples_seen=100 * k) for k, estimate in enumerate(estimates)]
    for k, estimate in enumerate(estimates[:4]):
        other.see(estimate, samples_seen=100 * k)
    again = schedule()
    again.load(other.state())
    assert [again.see(one, samples_seen=400 + 100 * k) for k, one in enumerate(estimates[4:])] == found[4:]
    assert any(found[4:]) and again.told() == one.told()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"factor": 0}, "batch_schedule.factor=0: must be a number above 0"),
        ({"hysteresis": 1}, "batch_schedule.hysteresis=1: must be a number above 1"),
        ({"parts": 1}, "batch_schedule.parts=1: it takes at least 2 to compare"),
        ({"parts": 20}, "batch.size=32: is too small for batch_schedule.parts=20: give 40 or more"),
        ({"least": 8}, "batch_schedule.least=8: is too small for batch_schedule.parts=8: give 16 or more"),
        ({"most": 20}, "batch_schedule.most=20: is below batch_schedule.least=32"),
        ({"every": "5xx"}, "batch_schedule.every=5xx: not a length such as 5ep"),
        ({"half_life": "10it"}, "batch_schedule.half_life=10it: iterations depend on the batch size"),
    ],
)
def test_wrong_options_are_refused_in_a_line(options: dict[str, object], message: str) -> None:
    with pytest.raises(Refused, match=message):
        NoiseScale(size=32, **options)  # pyright: ignore[reportArgumentType]
