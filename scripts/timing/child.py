"""A peer in a process of its own, forked from this one, which has everything imported; its notes come by a pipe."""

import ctypes
import math
import os
import select
import signal
import struct
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import cycle, zip_longest
from pathlib import Path
from typing import NamedTuple

import numpy as np

from mbtrain.study.pool import PR_SET_PDEATHSIG
from timing.span import Peer, Seconds, now

_MARK = struct.Struct("qdd")
PATIENCE_S, TURN_S = 600.0, 0.1


class Mark(NamedTuple):
    """How far a peer was, and when."""

    iterations: int
    at: Seconds


class Child:
    """Runs `peer` until it is stopped; `core` keeps it there, None lets it run anywhere."""

    def __init__(self, peer: Peer, *, core: int | None) -> None:
        self.marks: list[Mark] = []
        # Instants at which it was told to run and at which it had stopped, in turn.
        self.turns = [time.perf_counter()]
        self._read, write = os.pipe()
        self._pid = os.fork()
        if self._pid == 0:
            os.close(self._read)
            _run(peer, write, core)
        os.close(write)

    def wait_for(self, num_marks: int, *, since: float = 0.0) -> None:
        """Until it has made so many marks after the instant `since` of the wall clock."""
        while sum(mark.at.wall >= since for mark in self.marks) < num_marks:
            if not self.listen(PATIENCE_S):
                raise RuntimeError("a peer has said nothing for too long")

    def listen(self, timeout_s: float) -> bool:
        """Take in what it has noted, waiting for it as long as that; whether there was anything."""
        if not select.select([self._read], [], [], timeout_s)[0]:
            return False
        data = os.read(self._read, 512 * _MARK.size)
        if not data:
            raise RuntimeError("a peer ended, where it should train until it is stopped")
        self.marks += [Mark(done, Seconds(wall, cpu)) for done, wall, cpu in _MARK.iter_unpack(data)]
        return True

    def listen_for(self, seconds: float) -> None:
        """Take in what it notes in the time to come."""
        end = time.perf_counter() + seconds
        while (left := end - time.perf_counter()) > 0:
            self.listen(min(left, 0.05))

    def memory_bytes(self) -> int:
        """Resident memory of its own: what it shares with the process that forked it is left out."""
        lines = Path(f"/proc/{self._pid}/smaps_rollup").read_text().splitlines()
        return sum(1024 * int(line.split()[1]) for line in lines if line.startswith("Private_"))

    def pause(self) -> None:
        """It does not run until it is told to go on."""
        os.kill(self._pid, signal.SIGSTOP)
        os.waitpid(self._pid, os.WUNTRACED)
        self.turns.append(time.perf_counter())

    def go_on(self, *, core: int | None = None) -> None:
        """It runs again; its first thread on `core`, where one is given."""
        if core is not None:
            os.sched_setaffinity(self._pid, {core})
        self.turns.append(time.perf_counter())
        os.kill(self._pid, signal.SIGCONT)

    def clock(self, instant: float) -> float:
        """Seconds of its own up to an instant of the wall clock: those in which it was not paused."""
        turns = zip_longest(self.turns[::2], self.turns[1::2], fillvalue=math.inf)
        return sum(min(end, instant) - start for start, end in turns if start < instant)

    def stop(self) -> None:
        """At once, in the middle of whatever it does."""
        os.kill(self._pid, signal.SIGKILL)
        os.waitpid(self._pid, 0)
        os.close(self._read)

    def per_iteration(self, since: float, until: float) -> Seconds:
        """Mean time of an iteration between two instants of the wall clock, straight lines between the marks."""
        walls = [mark.at.wall for mark in self.marks]
        counts, own, cpu = (
            float(np.diff(np.interp((since, until), walls, values))[0])
            for values in (
                [mark.iterations for mark in self.marks],
                [self.clock(wall) for wall in walls],
                [mark.at.cpu for mark in self.marks],
            )
        )
        return Seconds(own / counts, cpu / counts)


def answered(ask: Callable[[], int]) -> int:
    """What `ask` gives, asked in a process of its own: torch computes nothing in one that forks others later."""
    child = Child(lambda note: note(ask()), core=None)
    try:
        child.wait_for(1)
        return child.marks[0].iterations
    finally:
        child.stop()


def _run(peer: Peer, write: int, core: int | None) -> None:
    """All that the child does; it never returns."""
    try:
        # However the parent ends, this ends with it.
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if core is not None:
            os.sched_setaffinity(0, {core})
        peer(lambda done: _note(write, done))
    except BaseException:
        traceback.print_exc()
        sys.stderr.flush()
    finally:
        os._exit(1)


def _note(write: int, done: int) -> None:
    os.write(write, _MARK.pack(done, *now()))


def side_by_side(first: Peer, second: Peer, *, seconds: float, core: int | None) -> tuple[Seconds, Seconds]:
    """Time per iteration of both while both are at work on the same core, which the kernel deals out in turns of a few
    milliseconds: whatever slows the core down slows down both."""
    with _paused(first, second, core=core) as children:
        started = time.perf_counter()
        for child in children:
            child.go_on()
        one, two = _measured(children, started, seconds)
        return one, two


def in_turns(first: Peer, second: Peer, *, seconds: float, core: int | None) -> tuple[Seconds, Seconds]:
    """Time per iteration of both by the wall clock, each alone: a tenth of a second the one, then the other; what slows
    the machine down for longer slows down both."""
    with _paused(first, second, core=core) as children:
        started = time.perf_counter()
        # Where it may be any core, both get each of them: one may be slower for as long as this lasts.
        cores = cycle(sorted(os.sched_getaffinity(0)) if core is None else [core])
        while any(_own_seconds(child, started) < seconds for child in children):
            here = next(cores)
            for child in children:
                child.go_on(core=here)
                child.listen_for(TURN_S)
                child.pause()
        one, two = (child.per_iteration(*_whole_epochs(child, started)) for child in children)
        return one, two


def alone(peer: Peer, *, seconds: float, core: int | None) -> Seconds:
    """Time per iteration of a peer by itself from beginning to end: a GPU goes on where a process is paused."""
    child = Child(peer, core=core)
    try:
        child.wait_for(2)
        return _measured([child], time.perf_counter(), seconds)[0]
    finally:
        child.stop()


@contextmanager
def _paused(*peers: Peer, core: int | None) -> Iterator[list[Child]]:
    """A process each, warm and paused."""
    children = []
    try:
        for peer in peers:
            children.append(Child(peer, core=core))
            children[-1].wait_for(2)
            children[-1].pause()
        yield children
    finally:
        for child in children:
            child.stop()


def _whole_epochs(child: Child, started: float) -> tuple[float, float]:
    """From the first mark after `started` to the last; the same instant where there is but one."""
    walls = [mark.at.wall for mark in child.marks if mark.at.wall >= started] or [started]
    return walls[0], walls[-1]


def _own_seconds(child: Child, started: float) -> float:
    since, until = _whole_epochs(child, started)
    return child.clock(until) - child.clock(since)


def _measured(children: list[Child], started: float, seconds: float) -> tuple[Seconds, ...]:
    """Of each, over the longest span in which all have whole epochs: two at least, `seconds` where that is longer."""
    for child in children:
        child.listen_for(started + seconds - time.perf_counter())
        child.wait_for(1, since=started)
    since = max(_whole_epochs(child, started)[0] for child in children)
    for child in children:
        child.wait_for(3, since=since)
    until = min(child.marks[-1].at.wall for child in children)
    return tuple(child.per_iteration(since, until) for child in children)
