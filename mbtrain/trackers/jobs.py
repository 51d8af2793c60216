"""The jobs of a sweep, for a side process that hands over all of them."""

import os
import queue
import threading
from collections.abc import Iterator
from pathlib import Path

import orjson

from mbtrain.plan.refused import Refused

Told = tuple[Path, int | None]


def jobs_of(sweep_dir: Path) -> Iterator[Told]:
    """Every job of a sweep that has begun, in order."""
    try:
        jobs = orjson.loads((sweep_dir / "sweep.json").read_bytes())["jobs"]
    except FileNotFoundError:
        raise Refused(f"{sweep_dir} is not the folder of a sweep: it has no sweep.json") from None
    for job in jobs:
        if (sweep_dir / job["folder"] / "config.yaml").is_file():
            yield sweep_dir / job["folder"], None


def jobs_told() -> Iterator[Told]:
    """The jobs that the sweep tells of on our stdin, with their processes, until it closes it."""
    told: queue.SimpleQueue[Told | None] = queue.SimpleQueue()
    threading.Thread(target=_listen, args=(told,), daemon=True).start()
    while (job := told.get()) is not None:
        yield job


def _listen(told: queue.SimpleQueue[Told | None]) -> None:
    """Read at once whatever is said, so that the sweep never waits for the trackers."""
    with os.fdopen(0, "rb", closefd=False) as lines:
        for line in lines:
            folder, pid = orjson.loads(line)
            told.put((Path(folder), pid))
    told.put(None)
