"""One process a folder, of a run or a sweep: a second one is refused."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from mbtrain.plan.refused import Refused


@contextmanager
def locked(folder: Path, *, key: str = "run_dir") -> Iterator[None]:
    """Hold the folder's lock for the length of a block; the system frees it when the process dies."""
    try:
        with FileLock(folder / ".lock").acquire(timeout=0):
            yield
    except Timeout:
        raise Refused(f"{key}={folder}: another process is training there, choose another folder or wait") from None
