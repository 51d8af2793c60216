"""The thread that writes the log: blocks of rows to `iterations.jsonl` and `epochs.jsonl`, in the order given."""

import hashlib
import os
import queue
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from pathlib import Path
from typing import Any, BinaryIO

import orjson

from mbtrain.plan.refused import Refused

FILES = {"iteration": "iterations.jsonl", "epoch": "epochs.jsonl"}
Rows = list[dict[str, Any]]
Observer = Callable[[str, Rows], None]


class LogWriter:
    """Writes rows behind the training's back; what fails there is raised at the next call here.

    `start` is what an earlier writer's mark said ("length" and "sha256" by kind): the log is cut back to there before
    anything is added; Refused where what stands before is not what was written. Every observer is called in the
    writer's thread with (kind, rows) after they are written.
    """

    def __init__(self, run_dir: Path, *, start: Mapping[str, Any], observers: tuple[Observer, ...] = ()) -> None:
        self._files = {kind: _File(run_dir / name, start.get(kind)) for kind, name in FILES.items()}
        self._observers = observers
        self._error: BaseException | None = None
        self._queue: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="mbtrain-log", daemon=True)
        self._thread.start()

    def write(self, kind: str, make_rows: Callable[[], Rows]) -> None:
        """Have the rows made and written in the thread (making them is where device tensors are waited for)."""
        self.raise_error()
        self._queue.put(lambda: self._write(kind, make_rows))

    def mark(self, see: Callable[[], dict[str, Any]]) -> "Future[dict[str, Any]]":
        """Promise the log's length and hash by kind, once all rows so far are on disk, and what `see` gives then.

        `see` runs in the writer's thread. The future fails where the log could not be written.
        """
        promised: Future[dict[str, Any]] = Future()
        self._queue.put(lambda: self._keep(promised, see))
        return promised

    def raise_error(self) -> None:
        """Raise what failed in the thread: every time, for nothing is written after it."""
        if self._error is not None:
            raise self._error

    def close(self) -> None:
        """Write what is left and end the thread; raises what failed in it."""
        self._queue.put(None)
        self._thread.join()
        for file in self._files.values():
            file.close()
        self.raise_error()

    def _run(self) -> None:
        while (job := self._queue.get()) is not None:
            try:
                job()
            except BaseException as error:  # handed to the training thread, which raises it
                self._error = self._error or error

    def _write(self, kind: str, make_rows: Callable[[], Rows]) -> None:
        if self._error is not None:
            return
        rows = make_rows()
        self._files[kind].add(b"".join(orjson.dumps(row, option=orjson.OPT_APPEND_NEWLINE) for row in rows))
        for observe in self._observers:
            observe(kind, rows)

    def _keep(self, promised: "Future[dict[str, Any]]", see: Callable[[], dict[str, Any]]) -> None:
        try:
            self.raise_error()
            kept = {kind: file.kept() for kind, file in self._files.items()}
            promised.set_result({**kept, **see()})
        except BaseException as error:
            promised.set_exception(error)
            raise


class _File:
    """One file of rows, its length and the hash of all of it."""

    def __init__(self, path: Path, start: Mapping[str, Any] | None) -> None:
        self._path = path
        self._length, self._hash = (0, hashlib.sha256()) if start is None else _verified(path, start)
        self._file: BinaryIO = open(path, "ab", buffering=0)  # noqa: SIM115 (closed by close)
        self._file.truncate(self._length)

    def add(self, lines: bytes) -> None:
        """Append whole lines, or nothing: a disk that is full leaves no half line."""
        try:
            left = memoryview(lines)
            while left:
                left = left[self._file.write(left) :]
        except OSError:
            self._file.truncate(self._length)
            raise
        self._length += len(lines)
        self._hash.update(lines)

    def kept(self) -> dict[str, Any]:
        """Flush to disk; how to find this state again."""
        os.fsync(self._file.fileno())
        return {"length": self._length, "sha256": self._hash.hexdigest()}

    def close(self) -> None:
        self._file.close()


def _verified(path: Path, start: Mapping[str, Any]) -> tuple[int, Any]:
    digest, left = hashlib.sha256(), int(start["length"])
    try:
        with path.open("rb") as file:
            while left and (block := file.read(min(left, 1 << 20))):
                digest.update(block)
                left -= len(block)
    except FileNotFoundError:
        pass
    if left or digest.hexdigest() != start["sha256"]:
        raise Refused(
            f"{path}: is not what the run wrote there up to its checkpoint: put the file back as it was, or start anew "
            "in another run_dir"
        )
    return int(start["length"]), digest
