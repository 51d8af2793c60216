"""Runs jobs, each in a process of its own, so many at once; passes on the signal that ends them all."""

import ctypes
import multiprocessing
import os
import signal
import sys
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess
from types import FrameType
from typing import Any, Protocol

from mbtrain.study.job_process import settle
from mbtrain.study.jobs import Job

# A forked job has all imports done. Elsewhere the system's libraries do not bear a fork.
START_METHOD = "fork" if sys.platform == "linux" else "spawn"
HEEDED = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGHUP)
TICK_SECONDS = 0.1
PR_SET_PDEATHSIG = 1  # of <sys/prctl.h>


class Watcher(Protocol):
    """Who is told what happens."""

    def begun(self, job: Job, pid: int) -> None:
        """A job's process has started."""

    def ended(self, job: Job) -> None:
        """A job's process is gone, and its status is final."""

    def tick(self) -> None:
        """Time has passed."""


class Stop:
    """Notes the signal that ends the sweep; a second Ctrl-C ends its jobs at once."""

    def __init__(self) -> None:
        self.received: int | None = None
        self._is_urgent = False
        self._told: set[int] = set()

    def pass_on(self, pids: Sequence[int]) -> None:
        """Have the running jobs save and end.

        Ctrl-C has reached them already; SIGTERM besides changes nothing then, where a second SIGINT would kill.
        """
        for pid in pids:
            if self._is_urgent:
                os.kill(pid, signal.SIGKILL)
            elif self.received is not None and pid not in self._told:
                self._told.add(pid)
                os.kill(pid, signal.SIGTERM)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self._is_urgent |= self.received is not None and number == signal.SIGINT
        self.received = self.received or number


@contextmanager
def stopping() -> Iterator[Stop]:
    """Signals are noted for the length of a block."""
    stop = Stop()
    before = {number: signal.signal(number, stop._note) for number in HEEDED}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def run_all(
    jobs: Sequence[Job], process_of: Callable[[Job], BaseProcess], *, at_once: int, stop: Stop, watcher: Watcher
) -> None:
    """Run the jobs in order, each in the process that `process_of` starts; after a signal no further one begins."""
    waiting, running = deque(jobs), dict[Any, tuple[Job, BaseProcess]]()
    while running or (waiting and stop.received is None):
        while waiting and len(running) < at_once and stop.received is None:
            job = waiting.popleft()
            process = process_of(job)
            running[process.sentinel] = (job, process)
            watcher.begun(job, _pid(process))
        wait(list(running), timeout=TICK_SECONDS)
        stop.pass_on([_pid(process) for _, process in running.values() if process.is_alive()])
        for sentinel, (job, process) in list(running.items()):
            if process.exitcode is not None:
                del running[sentinel]
                settle(job, _pid(process), process.exitcode, was_stopped=stop.received is not None)
                watcher.ended(job)
        watcher.tick()


def started(act: Callable[..., None], *arguments: Any) -> BaseProcess:
    """A process that runs `act`; signals are held back until it has the usual handlers, not its parent's."""
    process = multiprocessing.get_context(START_METHOD).Process(target=_begin, args=(act, *arguments))
    signal.pthread_sigmask(signal.SIG_BLOCK, HEEDED)
    try:
        process.start()
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, HEEDED)
    return process


def _begin(act: Callable[..., None], *arguments: Any) -> None:
    for number in HEEDED:
        signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
    if sys.platform == "linux":
        # Should the sweep itself be killed, its jobs save and end: the same command can go on at once.
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, int(signal.SIGTERM))
    signal.pthread_sigmask(signal.SIG_UNBLOCK, HEEDED)
    act(*arguments)


def _pid(process: BaseProcess) -> int:
    assert process.pid is not None
    return process.pid
