"""Charts as data: lines with bands, dots with intervals, heat maps; `svg` and `png` draw them."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Series:
    """One line: x, y, and its band from `low` to `high` where there is one; `has_dots` marks every point.

    `lost` are places that have no y (what diverged): crosses at the top.
    """

    name: str
    x: Array
    y: Array
    low: Array | None = None
    high: Array | None = None
    has_dots: bool = False
    lost: Array = field(default_factory=lambda: np.empty(0))


@dataclass(frozen=True)
class Lines:
    """A chart of lines; `file` names its picture, `note` says what line and band are.

    `x_ticks` stand in place of round numbers.
    """

    file: str
    title: str
    x_label: str
    y_label: str
    series: Sequence[Series]
    note: str = ""
    is_x_log: bool = False
    is_y_log: bool = False
    x_ticks: Sequence[float] = ()


@dataclass(frozen=True)
class Dots:
    """A row a setting: its seeds as small dots, their mean as a large one with its interval.

    With a `margin` they are differences: a line at 0, and a band of so much to both sides.
    """

    file: str
    title: str
    x_label: str
    rows: Sequence["DotRow"]
    note: str = ""
    is_x_log: bool = False
    margin: float | None = None


@dataclass(frozen=True)
class DotRow:
    """One row; `low` and `high` are nan without an interval, `told` is what hovering shows."""

    name: str
    values: Sequence[float]
    mean: float
    low: float
    high: float
    told: str


@dataclass(frozen=True)
class Heat:
    """A table of numbers shown by colour, rows by columns; `badness` is 0 for the best and 1 for the worst."""

    file: str
    title: str
    x_label: str
    y_label: str
    columns: Sequence[str]
    rows: Sequence[str]
    cells: Sequence["Cell"]
    note: str = ""


@dataclass(frozen=True)
class Cell:
    """One field of a heat map."""

    column: int
    row: int
    written: str
    told: str
    badness: float


Chart = Lines | Dots | Heat


@dataclass(frozen=True)
class Panel:
    """One chart, or the same chart over several x axes to choose from."""

    charts: Sequence[Chart]
    names: Sequence[str] = field(default_factory=tuple)


@dataclass(frozen=True)
class Scale:
    """Maps numbers to pixels; `ticks` are round numbers inside it."""

    low: float
    high: float
    start: float
    end: float
    is_log: bool
    ticks: tuple[float, ...]

    def __call__(self, values: Array | float) -> Array:
        """Pixels of values."""
        array = np.asarray(values, dtype=np.float64)
        low, high = self.low, self.high
        if self.is_log:
            array, low, high = np.log10(np.maximum(array, 1e-300)), math.log10(low), math.log10(high)
        return self.start + (array - low) / (high - low) * (self.end - self.start)


def scale(values: Array, start: float, end: float, *, is_log: bool, num_ticks: int = 5) -> Scale:
    """A scale that holds all values, with a little room."""
    low, high = float(values.min()), float(values.max())
    if is_log:
        room = (high / low) ** 0.04 if high > low else 1.5
        low, high = low / room, high * room
        return Scale(low, high, start, end, True, log_ticks(low, high))
    room = (high - low) * 0.04 or abs(high) * 0.1 or 1.0
    low, high = (low if low == 0 else low - room), high + room
    return Scale(low, high, start, end, False, _ticks(low, high, num_ticks))


def wants_log(values: Array) -> bool:
    """Positive values that span more than a factor of 20 show more on a logarithmic axis."""
    finite = values[np.isfinite(values)]
    return bool(len(finite) and finite.min() > 0 and finite.max() > 20 * finite.min())


def _ticks(low: float, high: float, count: int) -> tuple[float, ...]:
    """Multiples of 1, 2 or 5 times a power of ten.

    >>> _ticks(0.0, 1.0, 5)
    (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)
    """
    raw = (high - low) / count
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(one * power for one in (1, 2, 5, 10) if one * power >= raw * 0.999)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return tuple(float(f"{index * step:.12g}") for index in range(first, last + 1))


def log_ticks(low: float, high: float) -> tuple[float, ...]:
    """Powers of ten, with 2 and 5 times them where fewer than three would be left.

    >>> log_ticks(0.008, 0.4)
    (0.01, 0.02, 0.05, 0.1, 0.2)
    """
    for factors in ((1,), (1, 2, 5), (1, 1.5, 2, 3, 4, 5, 6, 8)):
        powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
        ticks = [float(f"{factor * 10.0**power:.12g}") for power in powers for factor in factors]
        ticks = [one for one in ticks if low <= one <= high]
        if len(ticks) >= 3:
            break
    # Over many decades every second or third is enough.
    return tuple(ticks[:: 1 + len(ticks) // 7])
