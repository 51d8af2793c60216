"""The side process that sends the log to the trackers; started before training so that both start-ups overlap."""

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import orjson

PATIENCE_SECONDS = 60.0


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

    def finish(self) -> list[str]:
        """Wait for it to have read all, for a while; a line for each tracker."""
        if self._process is None:
            return []
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            self._process.wait(PATIENCE_SECONDS)
        except subprocess.TimeoutExpired:
            return ["the trackers have not read all of the log yet: they go on by themselves"]
        return [self._line(name) for name in self._names]

    def cancel(self) -> None:
        """The run will not begin."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            assert self._process.stdin is not None
            self._process.stdin.close()

    def states(self) -> dict[str, Any]:
        """What each tracker says it has."""
        return {name: self._state(name) for name in self._names}

    def _state(self, name: str) -> dict[str, Any]:
        file = self._run_dir / "trackers" / f"{name}.json"
        return orjson.loads(file.read_bytes()) if file.is_file() else {"status": "failed", "error": "it never began"}

    def _line(self, name: str) -> str:
        state = self._state(name)
        if state.get("status") == "complete":
            return f"{name}: {state['address']}" if state.get("address") else f"{name}: complete"
        again = f"python -m mbtrain.trackers {self._run_dir} {name}"
        return f"{name}: has not all of the log ({state.get('error') or 'unknown'}); again: {again}"
