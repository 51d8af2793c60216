"""Damaged checkpoints: bits flipped, files cut short; each must be named and the one before it used."""

import random
from collections.abc import Callable
from pathlib import Path

from faults.runs import ended, fork
from faults.settings import COMMON
from mbtrain.training.checkpoint import loadable, newest


def flips_detected(num_tries: int, folder: Path, *, tell: Callable[[str], None]) -> tuple[int, int]:
    """(bits flipped, those that were detected) in the newest checkpoint of a run."""
    return _detected("bit flips", num_tries, _flipped, folder / "flipped", tell)


def cuts_detected(num_tries: int, folder: Path, *, tell: Callable[[str], None]) -> tuple[int, int]:
    """(truncations, those that were detected) of the newest checkpoint of a run."""
    return _detected("truncations", num_tries, lambda c, draw: c[: draw.randrange(len(c))], folder / "cut", tell)


def _detected(
    what: str, num_tries: int, damage: Callable[[bytes, random.Random], bytes], run_dir: Path, tell: Callable[..., None]
) -> tuple[int, int]:
    assert ended(fork([*COMMON, "model.hidden=[16]"], run_dir)) == 0
    last, before = newest(run_dir / "checkpoints")[:2]
    content, draw, good = last.read_bytes(), random.Random(2), 0
    for _ in range(num_tries):
        told: list[str] = []
        last.write_bytes(damage(content, draw))
        found = loadable(last.parent, tell=told.append)
        good += found is not None and found[0] == before and len(told) == 1 and last.name in told[0]
    tell(f"{what}: {num_tries}, detected {good}")
    return num_tries, good


def _flipped(content: bytes, draw: random.Random) -> bytes:
    damaged = bytearray(content)
    damaged[draw.randrange(len(content))] ^= 1 << draw.randrange(8)
    return bytes(damaged)
