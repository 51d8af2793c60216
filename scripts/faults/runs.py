"""Runs forked from this process, which has everything imported, and what is compared of them."""

import hashlib
import json
import os
import signal
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import mbtrain
from mbtrain import one_run  # noqa: F401  (imported before the forks)
from mbtrain.log.reader import read_rows
from mbtrain.training.checkpoint import newest
from mbtrain.training.sealed import read_sealed


def fork(overrides: Sequence[str], run_dir: Path) -> int:
    """Start a run; the number of its process."""
    child = os.fork()
    if child:
        return child
    code = 1
    try:
        with open(os.devnull, "w") as nowhere:
            os.dup2(nowhere.fileno(), 2)
        mbtrain.run([*overrides, f"run_dir={run_dir}"])
        code = 0
    finally:
        os._exit(code)


def is_alive(child: int) -> bool:
    """Whether it still runs; it is not waited for."""
    return os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None


def ended(child: int) -> int:
    """Wait for it; its exit code, negative for a signal."""
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def kill_when(child: int, condition: Callable[[], Any], *, delay_s: float = 0.0) -> bool:
    """Kill the run once the condition holds; False where it ended before."""
    while is_alive(child) and not condition():
        time.sleep(0.0005)
    time.sleep(delay_s)
    was_alive = is_alive(child)
    if was_alive:
        os.kill(child, signal.SIGKILL)
    return ended(child) == -signal.SIGKILL and was_alive


def fingerprint(run_dir: Path) -> dict[str, str]:
    """Hashes of the final weights, the optimizer's state, and the log without its times."""
    state = read_sealed(newest(run_dir / "checkpoints")[0])
    return {
        "weights": json.loads((run_dir / "result.json").read_bytes())["weights_sha256"],
        "optimizer": _hash(state["optimizer_states"]),
        "log": _hash([[_timeless(row) for row in read_rows(run_dir / name)] for name in LOGS]),
    }


LOGS = ("iterations.jsonl", "epochs.jsonl")


def _timeless(row: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in row.items() if not key.startswith("time/")}


def _hash(value: Any) -> str:
    return hashlib.sha256(repr(_plain(value)).encode()).hexdigest()


def _plain(value: Any) -> Any:
    if hasattr(value, "tolist"):
        return value.tolist()
    if isinstance(value, dict):
        return {key: _plain(one) for key, one in value.items()}
    return [_plain(one) for one in value] if isinstance(value, list | tuple) else value
