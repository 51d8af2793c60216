"""One tracker that may fail alone: what it was given, how it fares, and one loud line when it stops."""

import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from mbtrain.plan.refused import Refused
from mbtrain.trackers.states import write_state

SAVE_EVERY_S = 1.0
COUNTED_AS = {"iteration": "rows", "epoch": "epochs"}


class Guarded:
    """A tracker with its state in `RUN/trackers/NAME.json`; after it has raised once it is left alone.

    State: `rows` and `epochs` handed over, `status` (running, complete, failed), `error`, `address`.
    """

    def __init__(self, name: str, run_dir: Path, make: Callable[[], Any]) -> None:
        self._name = name
        self._run_dir = run_dir
        self._state: dict[str, Any] = {"rows": 0, "epochs": 0, "status": "running", "error": None, "address": None}
        self._saved_at = 0.0
        self._tracker: Any = None
        self._attempt(lambda: self._begin(make))

    @property
    def has_failed(self) -> bool:
        """It raised, and takes no more rows."""
        return self._state["status"] == "failed"

    def __call__(self, kind: str, row: dict[str, Any]) -> None:
        """Hand over a row."""
        if self.has_failed:
            return
        if self._attempt(lambda: self._tracker(kind, row)):
            self._state[COUNTED_AS[kind]] += 1

    def close(self, status: str, result: dict[str, Any] | None) -> None:
        """Tell it how the run ended; only now is it complete."""
        if self.has_failed:
            return
        close = getattr(self._tracker, "close", None)
        if close is None or self._attempt(lambda: close(status, result)):
            self._state["status"] = "complete"
            self._save()

    def save(self) -> None:
        """Write the state if the last writing is a second old."""
        if time.monotonic() - self._saved_at >= SAVE_EVERY_S:
            self._save()

    def _begin(self, make: Callable[[], Any]) -> None:
        self._tracker = make()
        self._state["address"] = getattr(self._tracker, "address", None)
        self._save()

    def _attempt(self, act: Callable[[], object]) -> bool:
        try:
            act()
        except Exception as error:
            self._fail(error)
            return False
        return True

    def _fail(self, error: Exception) -> None:
        message = str(error) if isinstance(error, Refused) else f"{type(error).__name__}: {error}"
        self._state |= {"status": "failed", "error": " ".join(message.split())}
        self._save()
        print(
            f"mbtrain: tracker {self._name} stopped after {self._state['rows']} iterations: {self._state['error']}. "
            f"The run and its log go on; once mended: python -m mbtrain.trackers {self._run_dir} {self._name}",
            file=sys.stderr,
            flush=True,
        )

    def _save(self) -> None:
        self._saved_at = time.monotonic()
        # Where even this cannot be written, the tracker itself may still have all.
        with suppress(OSError):
            write_state(self._run_dir, self._name, self._state)
