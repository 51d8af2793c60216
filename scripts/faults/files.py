"""Damaged checkpoints: bits flipped, files cut short; each must be named and the one before it used."""

import random
from collections.abc import Callable
from pathlib import Path

from faults.runs import ended, fork
from faults.settings import COMMON
from mbtrain.training.checkpoint import loadable, newest


def detected(num_flips: int, num_truncations: int, folder: Path, *, tell: Callable[[str], None]) -> dict[str, tuple]:
    """(tries, detected) of flips and truncations of the newest checkpoint of a run."""
    run_dir = folder / "damaged"
    assert ended(fork([*COMMON, "model.hidden=[16]"], run_dir)) == 0
    last, before = newest(run_dir / "checkpoints")[:2]
    content, draw = last.read_bytes(), random.Random(2)

    def is_detected(damaged: bytes) -> bool:
        told: list[str] = []
        last.write_bytes(damaged)
        found = loadable(last.parent, tell=told.append)
        return found is not None and found[0] == before and len(told) == 1 and last.name in told[0]

    flips = sum(is_detected(_flipped(content, draw)) for _ in range(num_flips))
    tell(f"bit flips: {num_flips}, detected {flips}")
    cuts = sum(is_detected(content[: draw.randrange(len(content))]) for _ in range(num_truncations))
    tell(f"truncations: {num_truncations}, detected {cuts}")
    return {"bit flip in a checkpoint": (num_flips, flips), "checkpoint cut short": (num_truncations, cuts)}


def _flipped(content: bytes, draw: random.Random) -> bytes:
    damaged = bytearray(content)
    damaged[draw.randrange(len(content))] ^= 1 << draw.randrange(8)
    return bytes(damaged)
