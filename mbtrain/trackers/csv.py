"""Two tables for spreadsheets: the rows of the log as `RUN/trackers/iterations.csv` and `epochs.csv`."""

import csv
from pathlib import Path
from typing import Any

FILES = {"iteration": "iterations.csv", "epoch": "epochs.csv"}


class Csv:
    """Writes both tables anew from the first row on; `nan` is a number that is not finite, empty is not measured."""

    def __init__(self, *, run_dir: str) -> None:
        self._folder = Path(run_dir, "trackers")
        self._folder.mkdir(exist_ok=True)
        self._tables = {kind: _Table(self._folder / name) for kind, name in FILES.items()}

    def __call__(self, kind: str, row: dict[str, Any]) -> None:
        """Add a line to the table of that kind."""
        self._tables[kind].add(row)

    def close(self, status: str, result: dict[str, Any] | None) -> None:
        """Put both files on disk."""
        for table in self._tables.values():
            table.close()

    @property
    def address(self) -> str:
        """Where the tables are."""
        return f"{self._folder / FILES['iteration']} and {FILES['epoch']} beside it"


class _Table:
    """One file whose columns may appear late: the rows so far are then copied under the longer head."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._columns: list[str] = []
        self._open()

    def add(self, row: dict[str, Any]) -> None:
        fresh = [key for key in row if key not in self._columns]
        if fresh:
            self._widen(fresh)
        values = ("" if key not in row else "nan" if row[key] is None else row[key] for key in self._columns)
        self._writer.writerow(values)

    def close(self) -> None:
        self._file.close()

    def _widen(self, fresh: list[str]) -> None:
        self._file.close()
        self._columns += fresh
        earlier = self._path.with_suffix(".earlier")
        self._path.replace(earlier)
        self._open()
        self._writer.writerow(self._columns)
        with earlier.open(newline="") as file:
            lines = csv.reader(file)
            next(lines, None)
            self._writer.writerows([*line, *[""] * len(fresh)] for line in lines)
        earlier.unlink()

    def _open(self) -> None:
        # Line by line, so that a spreadsheet opened during the run sees whole rows.
        self._file = self._path.open("w", buffering=1, newline="")
        self._writer = csv.writer(self._file, lineterminator="\n")
