"""Tables as data: for the page (sortable), for report.md and for results.csv."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from mbtrain.analysis.score import written
from mbtrain.analysis.statistics import Interval


@dataclass(frozen=True)
class Value:
    """A field: what is read, what it sorts by, and a share from 0 to 1 drawn as a bar."""

    text: str
    key: float | str = ""
    bar: float | None = None

    @property
    def is_number(self) -> bool:
        """Whether it sorts by a number and stands right."""
        return isinstance(self.key, float)


@dataclass(frozen=True)
class Table:
    """Named columns and rows; `note` stands below."""

    columns: Sequence[str]
    rows: Sequence[Sequence[Value]]
    note: str = ""


def word(text: str) -> Value:
    """A field of words.

    >>> word("done").key
    'done'
    """
    return Value(text, text)


def level(text: str) -> Value:
    """A factor's level, which sorts as a number where it is one.

    >>> level("0.1").key, level("adamw").key
    (0.1, 'adamw')
    """
    try:
        return Value(text, float(text))
    except ValueError:
        return word(text)


def number(value: float) -> Value:
    """A field of one number, empty where there is none.

    >>> number(0.25).text
    '0.25'
    """
    return Value("", math.inf) if math.isnan(value) else Value(written(value), float(value))


def with_interval(interval: Interval) -> Value:
    """A mean, its bounds and its n.

    >>> with_interval(Interval(3, 1.1, 0.85, 1.35, 0.95, "t")).text
    '1.10 [0.85, 1.35], n = 3'
    """
    return Value(spoken(interval), math.inf if math.isnan(interval.estimate) else interval.estimate)


def spoken(interval: Interval) -> str:
    """A mean, its bounds and its n, in words for a sentence or a table."""
    diverged = f", {interval.num_left_out} diverged" if interval.num_left_out else ""
    if interval.n == 0:
        return f"none{diverged}"
    if not interval.has_bounds or interval.high == interval.low:
        return f"{written(interval.estimate)}, n = {interval.n}{diverged}"
    # As many decimals as tell the interval's half width to two digits.
    decimals = min(max(0, 1 - math.floor(math.log10((interval.high - interval.low) / 2))), 9)
    middle, low, high = (f"{one:,.{decimals}f}" for one in (interval.estimate, interval.low, interval.high))
    return f"{middle} [{low}, {high}], n = {interval.n}{diverged}"


def percent(share: float) -> str:
    """A share in words.

    >>> percent(0.204), percent(0.0004)
    ('20 %', '0 %')
    """
    return f"{100 * share:.0f} %"


def probability(p: float) -> str:
    """A p value in words.

    >>> probability(0.0313), probability(0.0002)
    ('0.031', '< 0.001')
    """
    return "< 0.001" if p < 0.001 else f"{p:.2g}"
