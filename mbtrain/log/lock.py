"""One process a run folder: a second one is refused."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from mbtrain.plan.refused import Refused


@contextmanager
def locked(run_dir: Path) -> Iterator[None]:
    """Hold the folder's lock for the length of a block; the system frees it when the process dies."""
    try:
        with FileLock(run_dir / ".lock").acquire(timeout=0):
            yield
    except Timeout:
        raise Refused(f"run_dir={run_dir}: another process is training there, choose another folder or wait") from None
