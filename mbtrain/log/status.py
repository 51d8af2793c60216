"""The state of a run: `status.json`, and whether the run is over."""

import os
from pathlib import Path
from typing import Any

import orjson

from mbtrain.log.files import replace

FILE = "status.json"
FINAL = ("done", "failed", "killed", "interrupted")


def read_status(run_dir: str | Path) -> dict[str, Any] | None:
    """What the run last said of itself, or None where no run has begun."""
    try:
        return orjson.loads(Path(run_dir, FILE).read_bytes())
    except FileNotFoundError:
        return None


def write_status(run_dir: str | Path, status: str, message: str | None = None, *, pid: int | None = None) -> None:
    """Replace the state in one step; `pid` is given by who tells it of another process, which can no longer."""
    process = os.getpid() if pid is None else pid
    replace(Path(run_dir, FILE), orjson.dumps({"status": status, "pid": process, "message": message}))


def is_over(run_dir: str | Path) -> bool:
    """Nothing more will be written: the state is final, or its process no longer lives on this machine."""
    status = read_status(run_dir)
    return status is not None and (status["status"] in FINAL or not process_lives(status["pid"]))


def process_lives(pid: int) -> bool:
    """A process of that number runs; a dead one that its parent has not yet buried does not count."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    try:
        # "4242 (any name) Z ...": the name may hold spaces and brackets, so the state is what follows the last one.
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in ("Z", "X")
    except OSError:
        return True  # a system without /proc


def first_line(error: BaseException) -> str:
    """An exception as the message of a status.

    >>> first_line(ValueError("no\\nmore"))
    'ValueError: no'
    """
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__
