"""Command lines in processes forked from this one, which has everything imported: a fresh one takes seconds for it."""

import ctypes
import gc
import os
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path

from mbtrain.study.pool import PR_SET_PDEATHSIG
from tests import composing


@cache
def _warm_up() -> None:
    """What every command would do again after the fork; its garbage collector need not look at the tests' objects."""
    from mbtrain import one_run  # noqa: F401

    composing.compositions()
    gc.collect()
    gc.freeze()


class Forked:
    """`act`, which gives an exit code, in a process of its own, leader of its group; what it says goes to a file."""

    def __init__(self, act: Callable[[], int], said: Path, environ: Mapping[str, str]) -> None:
        _warm_up()

        self._said = said
        self.pid = os.fork()
        if self.pid == 0:
            code = 1
            try:
                self._set_up(environ)
                code = act()
            except SystemExit as error:
                code = error.code if isinstance(error.code, int) else 1
                if isinstance(error.code, str):
                    print(error.code, file=sys.stderr)
            except BaseException:
                traceback.print_exc()
            finally:
                os._exit(code)

    def _set_up(self, environ: Mapping[str, str]) -> None:
        os.setpgid(0, 0)
        if sys.platform == "linux":
            # Tests that are killed kill nothing any more: a sweep, its jobs and its trackers would go on for minutes.
            ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, int(signal.SIGKILL))
        file = os.open(self._said, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(file, 1)
        os.dup2(file, 2)
        # Those of the tests' own capture do not go there.
        sys.stdout, sys.stderr = os.fdopen(1, "w", buffering=1), os.fdopen(2, "w", buffering=1)
        os.environ.update(environ)
        # What an import of tempfile would see there.
        tempfile.tempdir = None

    @property
    def said(self) -> str:
        """All that it has said so far, on stdout and stderr."""
        return self._said.read_text() if self._said.exists() else ""

    def is_alive(self) -> bool:
        return os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None

    def wait_for(self, *files: Path) -> None:
        """Until there is something in each of the files."""
        deadline = time.monotonic() + 60
        while not all(one.exists() and one.stat().st_size for one in files):
            assert self.is_alive() and time.monotonic() < deadline, self.said
            time.sleep(0.005)

    def signal(self, number: int) -> None:
        os.kill(self.pid, number)

    def exit_code(self) -> int:
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])

    def ended(self) -> tuple[int, str]:
        """At its end: exit code and what it said."""
        return self.exit_code(), self.said

    def kill(self) -> None:
        """At once, and whatever processes it has started."""
        os.killpg(self.pid, signal.SIGKILL)
        self.exit_code()
