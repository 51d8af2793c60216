"""The side process that sends the log to the trackers; started before training so that both start-ups overlap."""

import os
import shlex
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from mbtrain.trackers.states import read_state

PATIENCE_SECONDS = 60.0


class TrackerReport(NamedTuple):
    """What is worth saying of a tracker at the end: where its pages are, or what it lacks."""

    name: str
    is_complete: bool
    text: str


class SideProcess:
    """`python -m mbtrain.trackers RUN`, whose failure never ends a run; nothing where there is no tracker."""

    def __init__(self, run_dir: str | Path, trackers: Mapping[str, Any], *, trust: Sequence[str]) -> None:
        self._run_dir, self._names = Path(run_dir), list(trackers)
        self._process: subprocess.Popen[bytes] | None = None
        self._trust = [word for name in trust for word in ("--trust", name)]

    def start(self) -> None:
        """Start it: it imports what it needs and waits for the run's folder."""
        if not self._names:
            return
        command = [sys.executable, "-m", "mbtrain.trackers", str(self._run_dir), *self._names, *self._trust]
        self._process = subprocess.Popen([*command, "--wait", str(os.getpid())], stdin=subprocess.PIPE)

    def finish(self) -> list[TrackerReport]:
        """Wait for it to have read all, for a while; what to say of each tracker."""
        if self._process is None:
            return []
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            self._process.wait(PATIENCE_SECONDS)
        except subprocess.TimeoutExpired:
            return [
                TrackerReport(name, False, "has not read all of the log yet: it goes on by itself")
                for name in self._names
            ]
        return [self._report(name) for name in self._names]

    def cancel(self) -> None:
        """The run will not begin."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            assert self._process.stdin is not None
            self._process.stdin.close()

    def _report(self, name: str) -> TrackerReport:
        state = read_state(self._run_dir, name) or {"error": "it never began"}
        if state.get("status") == "complete":
            return TrackerReport(name, True, state.get("address") or "complete")
        code = self._process.returncode if self._process is not None else 0
        died = f"its process was ended by signal {-code}" if code < 0 else None
        why = state.get("error") or died or "its process ended"
        again = f"python -m mbtrain.trackers {shlex.quote(str(self._run_dir))} {name}"
        return TrackerReport(name, False, f"has not all of the log ({why}); the log is whole, again: {again}")
