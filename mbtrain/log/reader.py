"""The reader of a run's log: a whole file at once, or both files in order while they are written."""

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from itertools import takewhile
from pathlib import Path
from typing import Any

import orjson

Row = dict[str, Any]

# Read at most about this much at a time: the memory a reader takes does not depend on the length of the log.
BLOCK_BYTES = 1 << 20


def read_rows(path: str | Path) -> list[Row]:
    """All rows of one file; a last line that a crash cut short is left out."""
    with Path(path).open("rb") as file:
        return [_row(line, path) for line in _whole(file)]


def follow(
    run_dir: str | Path, *, poll_s: float = 0.2, is_over: Callable[[], bool]
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Hand out ("iteration", row) and ("epoch", row), each once and in order, until the run is over and all is read.

    The epochs row of iteration i comes right after the row of iteration i. An epochs row whose iteration never reached
    the disk (the run was killed) is not handed out. Where the log is cut back and written again (the run was resumed),
    rows whose iteration was handed out before are skipped.
    """
    iterations, epochs = _Tail(Path(run_dir, "iterations.jsonl")), _Tail(Path(run_dir, "epochs.jsonl"))
    waiting: deque[Row] = deque()
    last = 0
    while True:
        # Asked before reading: what was written before the end is then certainly read after it.
        was_over = is_over()
        # Iterations first: the epochs row of every iteration but the newest is then on disk, and found below.
        block = iterations.read()
        last = block[-1]["iteration"] if block else last
        while not waiting or waiting[-1]["iteration"] <= last:
            more = epochs.read()
            if not more:
                break
            waiting.extend(more)
        yield from _merged(block, waiting, last)
        if not block:
            if was_over:
                return
            time.sleep(poll_s)


def _merged(block: list[Row], waiting: deque[Row], last: int) -> Iterator[tuple[str, Row]]:
    """Rows of a block with the epochs rows up to the last iteration between them; later ones stay in `waiting`."""
    for row in block:
        while waiting and waiting[0]["iteration"] < row["iteration"]:
            yield "epoch", waiting.popleft()
        yield "iteration", row
    while waiting and waiting[0]["iteration"] <= last:
        yield "epoch", waiting.popleft()


class _Tail:
    """One growing file of rows, read from where the last reading ended."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._position = 0
        self._line = b""
        self._iteration = 0

    def read(self) -> list[Row]:
        """The next rows, about a block of them; none where the file has no further complete line."""
        while lines := self._lines():
            rows = [row for row in (_row(line, self._path) for line in lines) if row["iteration"] > self._iteration]
            if rows:
                self._iteration = rows[-1]["iteration"]
                return rows
        return []

    def _lines(self) -> list[bytes]:
        try:
            file = self._path.open("rb")
        except FileNotFoundError:
            return []
        with file:
            # The line read last must still stand where it stood; else the file was cut back and perhaps written anew
            # past this position, with lines of other lengths: start over, and skip by the number of the iteration.
            file.seek(self._position - len(self._line))
            if file.read(len(self._line)) != self._line:
                file.seek(0)
                self._position, self._line = 0, b""
            lines = list(_whole(file.readlines(BLOCK_BYTES)))
        if lines:
            self._position += sum(map(len, lines))
            self._line = lines[-1]
        return lines


def _whole(lines: Iterable[bytes]) -> Iterator[bytes]:
    """Up to the first line that is cut short: where the file grows meanwhile, its rest comes as a line of its own."""
    return takewhile(lambda line: line.endswith(b"\n"), lines)


def _row(line: bytes, path: str | Path) -> Row:
    try:
        return orjson.loads(line)
    except orjson.JSONDecodeError:
        raise ValueError(f"{path}: a line that is not JSON, {line[:60]!r}: the file was damaged") from None
