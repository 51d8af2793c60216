"""A log of any length in bounded memory: each column's lowest, highest and mean value per stretch of iterations."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from mbtrain.log.reader import BLOCK_BYTES, Row

# Stretches kept: between half of it and all of it, so about one a pixel of a wide chart.
CAPACITY = 1024
# A count that float64 holds exactly; a larger one comes from a damaged line.
LARGEST = 2**53
Array = NDArray[np.float64]


class Column:
    """Lowest, highest, sum and count of one column's finite values in each stretch."""

    def __init__(self) -> None:
        self._low, self._high = np.full(CAPACITY, np.inf), np.full(CAPACITY, -np.inf)
        self._sums, self._counts = np.zeros(CAPACITY), np.zeros(CAPACITY)
        self.num_nonfinite = 0

    def add(self, values: Array, stretches: NDArray[np.int64]) -> None:
        """Take in values, each belonging to a stretch."""
        finite = np.isfinite(values)
        values, stretches = values[finite], stretches[finite]
        np.minimum.at(self._low, stretches, values)
        np.maximum.at(self._high, stretches, values)
        self._sums += np.bincount(stretches, weights=values, minlength=CAPACITY)
        self._counts += np.bincount(stretches, minlength=CAPACITY)

    def halve(self) -> None:
        """Make one stretch of two."""
        empty = CAPACITY // 2
        self._low = np.concatenate([self._low.reshape(-1, 2).min(1), np.full(empty, np.inf)])
        self._high = np.concatenate([self._high.reshape(-1, 2).max(1), np.full(empty, -np.inf)])
        self._sums = np.concatenate([self._sums.reshape(-1, 2).sum(1), np.zeros(empty)])
        self._counts = np.concatenate([self._counts.reshape(-1, 2).sum(1), np.zeros(empty)])

    @property
    def total(self) -> float:
        """The sum of all values."""
        return float(self._sums.sum())

    @property
    def low(self) -> Array:
        """Lowest value of each stretch, nan where there is none."""
        return np.where(self._counts > 0, self._low, np.nan)

    @property
    def high(self) -> Array:
        """Highest value of each stretch, nan where there is none."""
        return np.where(self._counts > 0, self._high, np.nan)

    @property
    def mean(self) -> Array:
        """Mean value of each stretch, nan where there is none."""
        return np.divide(self._sums, self._counts, out=np.full(CAPACITY, np.nan), where=self._counts > 0)


class ThinnedLog:
    """One growing file of rows; `read` takes in what was added since.

    A stretch is a power of two of iterations, doubled whenever the log outgrows CAPACITY stretches: one pass, without
    knowing the length ahead. Lines that are not rows are counted in `num_damaged` and left out.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._clear()

    def _clear(self) -> None:
        self._position, self._line, self._width = 0, b"", 1
        self.columns: dict[str, Column] = {}
        self.num_rows, self.num_damaged = 0, 0
        self.last: Row = {}

    def read(self) -> None:
        """Take in all further whole lines; start over where the file was cut back by a resume."""
        try:
            file = self._path.open("rb")
        except OSError:
            return
        with file:
            file.seek(self._position - len(self._line))
            if file.read(len(self._line)) != self._line:
                file.seek(0)
                self._clear()
            while lines := file.readlines(BLOCK_BYTES):
                if not lines[-1].endswith(b"\n"):
                    lines.pop()  # still being written: read next time
                if not lines:
                    return
                self._position += sum(map(len, lines))
                self._line = lines[-1]
                self._add(lines)

    def points(self, column: str, axis: str) -> tuple[Array, Array, Array, Array]:
        """(x, mean, low, high) of a column, x being the axis' value at the end of each stretch."""
        if column not in self.columns or axis not in self.columns:
            return np.empty(0), np.empty(0), np.empty(0), np.empty(0)
        one, x = self.columns[column], self.columns[axis].high
        is_there = ~np.isnan(one.low) & ~np.isnan(x)
        return x[is_there], one.mean[is_there], one.low[is_there], one.high[is_there]

    def _add(self, lines: Sequence[bytes]) -> None:
        rows = [row for row in _values(lines) if _is_row(row)]
        self.num_damaged += len(lines) - len(rows)
        if not rows:
            return
        self.num_rows += len(rows)
        self.last = rows[-1]
        # Rows of the same columns are turned into columns at once; a probe's extra column makes a second kind of row.
        kinds: dict[tuple[str, ...], list[Row]] = {}
        for row in rows:
            kinds.setdefault(tuple(row), []).append(row)
        for names, own in kinds.items():
            self._add_columns(dict(zip(names, zip(*map(dict.values, own), strict=True), strict=True)))

    def _add_columns(self, table: Mapping[str, tuple[Any, ...]]) -> None:
        iterations = np.array(table["iteration"], dtype=np.int64)
        while (iterations.max() - 1) // self._width >= CAPACITY:
            self._width *= 2
            for column in self.columns.values():
                column.halve()
        stretches = (iterations - 1) // self._width
        for name, values in table.items():
            try:
                numbers = np.array(values, dtype=np.float64)
            except (TypeError, ValueError):
                continue  # words or lists, which no chart shows
            if numbers.ndim == 1:
                column = self.columns.setdefault(name, Column())
                column.num_nonfinite += len(numbers) - int(np.isfinite(numbers).sum())
                column.add(numbers, stretches)


def _values(lines: Sequence[bytes]) -> list[Any]:
    try:
        # One call for the whole block is several times faster than one a line.
        values = orjson.loads(b"[" + b",".join(lines) + b"]")
    except orjson.JSONDecodeError:
        values = []
    # Damaged lines may by chance make sense together: then they are not as many as the lines.
    return values if len(values) == len(lines) else [_value(line) for line in lines]


def _value(line: bytes) -> Any:
    try:
        return orjson.loads(line)
    except orjson.JSONDecodeError:
        return None


def _is_row(value: Any) -> bool:
    return isinstance(value, dict) and type(value.get("iteration")) is int and 0 < value["iteration"] < LARGEST
