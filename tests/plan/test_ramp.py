"""The limits of batch renorm over the run."""

import pytest

from mbtrain.plan.duration import Duration
from mbtrain.plan.ramp import renorm_limits
from mbtrain.plan.refused import Refused
from mbtrain.plan.run import RunPlan

PLAN = RunPlan(num_samples=100, batch_size=10, duration=Duration.parse("10ep"))
OPTIONS = {"r_max": 3, "d_max": 5, "renorm_start": "1ep", "r_max_at": "50%", "d_max_at": "300sp"}


@pytest.mark.parametrize(
    ("samples", "limits"), [(0, (1, 0)), (100, (1, 0)), (200, (1.5, 2.5)), (300, (2, 5)), (500, (3, 5)), (999, (3, 5))]
)
def test_limits_rise_in_straight_lines(samples: int, limits: tuple[float, float]) -> None:
    assert renorm_limits(OPTIONS, PLAN)(samples) == pytest.approx(limits)


def test_limits_may_hold_from_the_start_on() -> None:
    assert renorm_limits(OPTIONS | {"r_max_at": "1ep"}, PLAN)(100)[0] == 3


def test_a_limit_that_is_reached_before_the_start_is_refused() -> None:
    with pytest.raises(Refused, match="batch_norm.d_max_at=50sp: lies before batch_norm.renorm_start=1ep"):
        renorm_limits(OPTIONS | {"d_max_at": "50sp"}, PLAN)
