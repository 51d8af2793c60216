"""The tracker process of a sweep: one for all its jobs, told of each as it begins; its failure never ends a job."""

import os
import subprocess
import sys
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

import orjson

from mbtrain.log.status import read_status
from mbtrain.side_process import PATIENCE_SECONDS
from mbtrain.study.jobs import Job


class SweepTrackers:
    """`python -m mbtrain.trackers --sweep SWEEP`; nothing where no job has a tracker."""

    def __init__(self, sweep_dir: Path, jobs: Iterable[Job]) -> None:
        self._sweep_dir = sweep_dir
        self._jobs = [job for job in jobs if job.config["tracker"]]
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it, and hand it what an earlier sweep has left untold."""
        if not self._jobs:
            return
        names = dict.fromkeys(name for job in self._jobs for name in job.config["tracker"])
        trust = dict.fromkeys(package for job in self._jobs for package in job.config["trust"])
        words = [word for package in trust for word in ("--trust", package)]
        command = [sys.executable, "-m", "mbtrain.trackers", "--sweep", str(self._sweep_dir), *names, *words]
        self._process = subprocess.Popen([*command, "--wait", str(os.getpid())], stdin=subprocess.PIPE)
        assert self._process.stdin is not None
        # One that does not read holds no job up.
        os.set_blocking(self._process.stdin.fileno(), False)
        for job in self._jobs:
            status = read_status(job.folder)
            if status is not None and status["status"] == "done" and not is_tracked(job):
                self.begun(job, status["pid"])

    def begun(self, job: Job, pid: int) -> None:
        """A job's process has started."""
        if self._process is None or not job.config["tracker"]:
            return
        assert self._process.stdin is not None
        # It may have died, or does not read; `finish` says how many jobs it lacks.
        with suppress(OSError):
            os.write(self._process.stdin.fileno(), orjson.dumps([str(job.folder), pid]) + b"\n")

    def finish(self) -> list[str]:
        """Wait for it to have read all, for a while; a line of what it has."""
        if self._process is None:
            return []
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            self._process.wait(PATIENCE_SECONDS)
        except subprocess.TimeoutExpired:
            return ["the trackers have not read all of the logs yet: they go on by themselves"]
        lacking = [job for job in self._jobs if (job.folder / "config.yaml").is_file() and not is_tracked(job)]
        if lacking:
            again = f"python -m mbtrain.trackers --sweep {self._sweep_dir}"
            return [f"trackers: {len(lacking)} jobs are not all handed over; again: {again}"]
        return []


def is_tracked(job: Job) -> bool:
    """Each of its trackers has all of its log."""
    return all(_state(job.folder, name) == "complete" for name in job.config["tracker"])


def _state(run_dir: Path, name: str) -> str | None:
    file = run_dir / "trackers" / f"{name}.json"
    return orjson.loads(file.read_bytes()).get("status") if file.is_file() else None
