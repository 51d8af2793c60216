"""Mini-batches in proportion to the gradient noise scale (`batch_schedule=noise_scale`; arXiv 1812.06162, app. D)."""

import math
from collections.abc import Mapping
from typing import Any

from mbtrain.plan.batch_schedule import Passes, Steps, length_of, size_of
from mbtrain.plan.duration import Duration
from mbtrain.plan.noise_average import NoiseAverage
from mbtrain.plan.refused import Refused


class NoiseScale:
    """The batch size is `factor` times the averaged noise scale, between `least` and `most` samples.

    It moves only where that is more than `hysteresis` times larger, or smaller, than the size in use, and stays where
    the noise scale is not determined (negative or infinite). By default `least` is batch.size and `most` a tenth of the
    data. The noise scale is its own estimate: `every` Duration the mini-batch is gone through again in `parts`, and the
    estimates are averaged with `half_life`.
    """

    reads: tuple[str, str] = ("batch_schedule/trace", "batch_schedule/gradient_sq")

    def __init__(
        self,
        *,
        size: int,
        factor: float = 1.0,
        hysteresis: float = 1.5,
        least: int | None = None,
        most: int | None = None,
        parts: int = 8,
        every: str = "50it",
        half_life: str = "10%",
    ) -> None:
        self._factor = _number_above("factor", factor, 0)
        self._hysteresis = _number_above("hysteresis", hysteresis, 1)
        self.parts = size_of("parts", parts)
        self.every, self.half_life = _cadence_of(every), length_of("half_life", half_life)
        self._size, self._least = size, size if least is None else size_of("least", least)
        self._most = None if most is None else size_of("most", most)
        self._limit = size
        self._average = NoiseAverage(1.0)
        if self.parts < 2:
            raise Refused(f"batch_schedule.parts={parts}: it takes at least 2 to compare")
        if self._least < 2 * self.parts or size < 2 * self.parts:
            key, small = ("batch.size", size) if size < 2 * self.parts else ("batch_schedule.least", self._least)
            raise Refused(
                f"{key}={small}: is too small for batch_schedule.parts={parts}: give {2 * self.parts} or more"
            )
        if self._most is not None and self._most < self._least:
            raise Refused(f"batch_schedule.most={most}: is below batch_schedule.least={self._least}")

    def __call__(self, horizon: Passes) -> Steps:
        """The size at the start."""
        self._limit = self.most(horizon)
        self._average = NoiseAverage(float(horizon.samples(self.half_life)))
        return [(0, self._size)]

    def most(self, horizon: Passes) -> int:
        """No size will be larger."""
        tenth = horizon.num_samples // 10
        return max(self._size, self._least, tenth if self._most is None else min(self._most, horizon.num_samples))

    def see(self, values: Mapping[str, float], *, samples_seen: int) -> int | None:
        """Look at an estimate; the new size, None where it stays."""
        if not set(self.reads) <= set(values):
            return None
        trace, gradient_sq = (values[name] for name in self.reads)
        self._average.add(trace, gradient_sq, samples_seen=samples_seen)
        scale = self._average.scale
        if not math.isfinite(scale) or scale <= 0:
            return None
        wanted = min(max(round(self._factor * scale), self._least), self._limit)
        if max(wanted, self._size) <= self._hysteresis * min(wanted, self._size):
            return None
        self._size = wanted
        return wanted

    def told(self) -> dict[str, float]:
        """What it goes by, for the log."""
        return {"batch_schedule/noise_scale": self._average.scale}

    def state(self) -> dict[str, Any]:
        """What a checkpoint needs."""
        return {"size": self._size, "average": self._average.state()}

    def load(self, state: Mapping[str, Any]) -> None:
        """Go on from `state`."""
        self._size = state["size"]
        self._average.load(state["average"])


def _cadence_of(every: object) -> Duration:
    """How often it measures: iterations too, which are counted as they come."""
    try:
        return Duration.parse(every)
    except Refused as error:
        raise Refused(f"batch_schedule.every={error}") from None


def _number_above(name: str, value: Any, bound: float) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not bound < value < math.inf:
        raise Refused(f"batch_schedule.{name}={value}: must be a number above {bound}")
    return float(value)
