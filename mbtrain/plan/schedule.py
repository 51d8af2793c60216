"""Learning-rate schedules (`lr_schedule=`): a factor as a function of samples seen, so batch size does not move them.

A schedule is called once with the run's horizon and gives the function from samples seen to the factor of
`optimizer.lr`. An update's learning rate is its value at the middle of the update's mini-batch: no update has the
rate 0, and runs with different batch sizes follow one curve.
"""

import math
from collections.abc import Callable

from mbtrain.plan.duration import Duration, Horizon
from mbtrain.plan.refused import Refused

Factor = Callable[[float], float]


def with_warmup(shape: Factor, warmup: Duration | None, horizon: Horizon) -> Factor:
    """`shape` (of the progress 0..1 after the warm-up), reached by a straight rise from 0 over `warmup`."""
    rise = 0.0 if warmup is None else float(horizon.samples(warmup))
    rest = float(horizon.total) - rise

    def factor(samples: float) -> float:
        if samples < rise:
            return samples / rise * shape(0.0)
        return shape(min(1.0, (samples - rise) / rest) if rest > 0 else 1.0)

    return factor


def _length(warmup: object) -> Duration | None:
    return None if warmup is None else _duration("warmup", warmup)


def _duration(option: str, text: object) -> Duration:
    try:
        return Duration.parse(text)
    except Refused as error:
        raise Refused(f"lr_schedule.{option}={error}") from None


def _number(option: str, value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < math.inf:
        raise Refused(f"lr_schedule.{option}={value}: must be a number of at least 0")
    return value


class Constant:
    """The same learning rate throughout, after the warm-up."""

    def __init__(self, *, warmup: str | None = None) -> None:
        self._warmup = _length(warmup)

    def __call__(self, horizon: Horizon) -> Factor:
        """The function from samples seen to the factor of `optimizer.lr`."""
        if self._warmup is None:
            return lambda samples: 1.0
        return with_warmup(lambda progress: 1.0, self._warmup, horizon)


class Cosine:
    """Half a cosine from 1 to `final` (arXiv 1608.03983, without restarts)."""

    def __init__(self, *, warmup: str | None = None, final: float = 0.0) -> None:
        self._warmup, self._final = _length(warmup), _number("final", final)

    def __call__(self, horizon: Horizon) -> Factor:
        """The function from samples seen to the factor of `optimizer.lr`."""
        height = 1 - self._final
        return with_warmup(lambda t: self._final + height * (1 + math.cos(math.pi * t)) / 2, self._warmup, horizon)


class Linear:
    """A straight line from 1 to `final`."""

    def __init__(self, *, warmup: str | None = None, final: float = 0.0) -> None:
        self._warmup, self._final = _length(warmup), _number("final", final)

    def __call__(self, horizon: Horizon) -> Factor:
        """The function from samples seen to the factor of `optimizer.lr`."""
        return with_warmup(lambda t: 1 + (self._final - 1) * t, self._warmup, horizon)


class Step:
    """Times `factor` at each Duration of `at` (percents are of the whole run)."""

    def __init__(self, *, at: list[str], factor: float = 0.1, warmup: str | None = None) -> None:
        if not isinstance(at, list | tuple) or not at:
            raise Refused(f"lr_schedule.at={at}: must be a list of lengths such as [50%,75%]")
        self._warmup, self.factor = _length(warmup), _number("factor", factor)
        self.at = [_duration("at", one) for one in at]

    def __call__(self, horizon: Horizon) -> Factor:
        """The function from samples seen to the factor of `optimizer.lr`."""
        rise = with_warmup(lambda t: 1.0, self._warmup, horizon)
        drops = self.drops(horizon)
        return lambda samples: rise(samples) * self.factor ** sum(samples >= drop for drop in drops)

    def drops(self, horizon: Horizon) -> list[float]:
        """The samples gone past at each drop."""
        return [float(horizon.samples(one)) for one in self.at]
