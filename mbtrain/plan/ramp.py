"""The limits of batch renorm as the run goes on: none of it at first, then a straight rise of each."""

from collections.abc import Callable, Mapping
from typing import Any

from mbtrain.plan.duration import Duration, Horizon
from mbtrain.plan.refused import Refused


def ramp(samples_seen: float, *, start: float, end: float, low: float, high: float) -> float:
    """`low` until `start`, `high` from `end` on, a straight line between.

    >>> [ramp(n, start=10, end=30, low=1, high=3) for n in (0, 10, 20, 30, 99)]
    [1, 1, 2.0, 3, 3]
    """
    if samples_seen >= end:
        return high
    return low if samples_seen <= start else low + (high - low) * (samples_seen - start) / (end - start)


def renorm_limits(options: Mapping[str, Any], horizon: Horizon) -> Callable[[int], tuple[float, float]]:
    """Samples seen -> (r_max, d_max) by the keys `batch_norm.*`; (1, 0), which is batch norm, until `renorm_start`."""
    start, r_end, d_end = (
        float(horizon.samples(Duration.parse(options[name]))) for name in ("renorm_start", "r_max_at", "d_max_at")
    )
    for name, end in (("r_max_at", r_end), ("d_max_at", d_end)):
        if end < start:
            raise Refused(
                f"batch_norm.{name}={options[name]}: lies before batch_norm.renorm_start={options['renorm_start']}, "
                "from where the limit rises: give a longer one"
            )
    r_max, d_max = float(options["r_max"]), float(options["d_max"])

    def limits(samples_seen: int) -> tuple[float, float]:
        return (
            ramp(samples_seen, start=start, end=r_end, low=1.0, high=r_max),
            ramp(samples_seen, start=start, end=d_end, low=0.0, high=d_max),
        )

    return limits
