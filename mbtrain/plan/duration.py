"""A length of training: 5ep (epochs), 200it (iterations), 6400sp (samples) or 50% (of the run)."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Literal, Protocol

from mbtrain.plan.refused import Refused

Unit = Literal["ep", "it", "sp", "%"]
ALLOWED = "a length such as 5ep, 200it, 6400sp or 50%"
_PATTERN = re.compile(r"(\d+(?:\.\d+)?(?:[eE]\+?\d+)?)\s*(ep|it|sp|%)")


@dataclass(frozen=True)
class Duration:
    """An exact amount of a unit; `str` gives back what `parse` reads.

    >>> Duration.parse("0.5ep")
    Duration(amount=Fraction(1, 2), unit='ep')
    """

    amount: Fraction
    unit: Unit

    @staticmethod
    def parse(text: object) -> "Duration":
        """Read `text`; raises Refused unless it is a positive number and a unit, whole for `it` and `sp`."""
        match = _PATTERN.fullmatch(text.strip()) if isinstance(text, str) else None
        if match is None:
            raise Refused(f"{text}: not {ALLOWED}")
        amount, unit = Fraction(match[1]), match[2]
        if amount <= 0:
            raise Refused(f"{text}: must be more than zero")
        if unit in ("it", "sp") and amount.denominator != 1:
            raise Refused(f"{text}: iterations and samples are whole numbers")
        return Duration(amount, unit)  # pyright: ignore[reportArgumentType]

    def __str__(self) -> str:
        amount = self.amount.numerator if self.amount.denominator == 1 else float(self.amount)
        return f"{amount}{self.unit}"


class Horizon(Protocol):
    """What turns a Duration into samples: the plan of a run."""

    total: Fraction

    def samples(self, duration: Duration) -> Fraction:
        """The number of samples seen when `duration` has passed."""
        ...


class Cadence:
    """`every=DURATION`: due at the first iteration that ends at or after each multiple of the Duration.

    >>> Cadence(Duration.parse("2it"), horizon=None).is_due(3, 96, 128)
    True
    """

    def __init__(self, every: Duration, *, horizon: Horizon | None) -> None:
        self._iterations = int(every.amount) if every.unit == "it" else 0
        if not self._iterations:
            assert horizon is not None
            self._samples = horizon.samples(every)

    def is_due(self, index: int, samples_before: int, samples_after: int) -> bool:
        """Whether iteration `index` (from 0), which moved samples_seen so, is the first at or after a multiple."""
        if self._iterations:
            return (index + 1) % self._iterations == 0
        return samples_after // self._samples > samples_before // self._samples


class Points:
    """`at=[DURATION, ...]`: due at the first iteration that ends at or after each; `100%` is the last of the run.

    >>> Points([Duration.parse("100sp")], horizon=None).is_due(3, 96, 128)
    True
    """

    def __init__(self, at: Sequence[Duration], *, horizon: Horizon | None) -> None:
        self._iterations = {int(one.amount) for one in at if one.unit == "it"}
        self._samples = [_samples_at(one, horizon) for one in at if one.unit != "it"]

    def is_due(self, index: int, samples_before: int, samples_after: int) -> bool:
        """Whether iteration `index` (from 0), which moved samples_seen so, is the first at or after one of them."""
        is_passed = any(samples_before < one <= samples_after for one in self._samples)
        return is_passed or index + 1 in self._iterations


def _samples_at(point: Duration, horizon: Horizon | None) -> Fraction:
    if point.unit == "sp":
        return point.amount
    assert horizon is not None
    return horizon.samples(point)
