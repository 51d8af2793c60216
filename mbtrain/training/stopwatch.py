"""Where the host's time of one iteration goes, by laps; nothing waits for the device."""

import time
from collections.abc import Iterator
from typing import TypeVar

T = TypeVar("T")


class Stopwatch:
    """Seconds by part; each lap runs from the one before, and belongs to the part that is named at its end."""

    def __init__(self, *, waited_s: float) -> None:
        self.seconds = {"data": waited_s, "forward_backward": 0.0, "update": 0.0}
        self._at = time.perf_counter()

    def lap(self, part: str | None) -> None:
        """End a lap that belongs to `part`, or to none."""
        now = time.perf_counter()
        if part is not None:
            self.seconds[part] += now - self._at
        self._at = now

    def fetching(self, micro_batches: Iterator[T]) -> Iterator[T]:
        """`micro_batches`, the time to gather each being data's and the time between them the passes'."""
        self.lap(None)
        for micro_batch in micro_batches:
            self.lap("data")
            yield micro_batch
            self.lap("forward_backward")
