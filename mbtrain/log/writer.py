"""The thread that writes the log: blocks of rows to `iterations.jsonl` and `epochs.jsonl`, in the order given."""

import os
import queue
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import orjson

FILES = {"iteration": "iterations.jsonl", "epoch": "epochs.jsonl"}
Rows = list[dict[str, Any]]
Observer = Callable[[str, Rows], None]


class LogWriter:
    """Writes rows behind the training's back; what fails there is raised at the next call here.

    `offsets` are the lengths in bytes to which an earlier log is cut back before anything is added. Every observer is
    called in the writer's thread with (kind, rows) after they are written.
    """

    def __init__(self, run_dir: Path, *, offsets: Mapping[str, int], observers: tuple[Observer, ...] = ()) -> None:
        self._files = {kind: open(run_dir / name, "ab") for kind, name in FILES.items()}  # noqa: SIM115 (closed by close)
        for kind, file in self._files.items():
            file.truncate(offsets.get(kind, 0))
            file.seek(0, os.SEEK_END)
        self._observers = observers
        self._error: BaseException | None = None
        self._queue: queue.SimpleQueue[tuple[str, Callable[[], Rows]] | threading.Event | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="mbtrain-log", daemon=True)
        self._thread.start()

    def write(self, kind: str, make_rows: Callable[[], Rows]) -> None:
        """Have the rows made and written in the thread (making them is where device tensors are waited for)."""
        self._raise()
        self._queue.put((kind, make_rows))

    def flush(self) -> dict[str, int]:
        """Wait until all is on disk; the length of each file in bytes."""
        done = threading.Event()
        self._queue.put(done)
        done.wait()
        self._raise()
        for file in self._files.values():
            os.fsync(file.fileno())
        return {kind: file.tell() for kind, file in self._files.items()}

    def close(self) -> None:
        """Write what is left and end the thread."""
        self._queue.put(None)
        self._thread.join()
        for file in self._files.values():
            file.close()
        self._raise()

    def _run(self) -> None:
        while (item := self._queue.get()) is not None:
            if isinstance(item, threading.Event):
                item.set()
            elif self._error is None:
                try:
                    self._write(*item)
                except BaseException as error:  # handed to the training thread, which raises it
                    self._error = error

    def _write(self, kind: str, make_rows: Callable[[], Rows]) -> None:
        rows = make_rows()
        file = self._files[kind]
        file.write(b"".join(orjson.dumps(row, option=orjson.OPT_APPEND_NEWLINE) for row in rows))
        file.flush()
        for observe in self._observers:
            observe(kind, rows)

    def _raise(self) -> None:
        if self._error is not None:
            error, self._error = self._error, None
            raise error
