"""Where the host's time of one iteration goes, by laps; nothing waits for the device. Ways that are timed in turns."""

import time
from collections.abc import Callable, Hashable, Iterator, Mapping
from statistics import median
from typing import TypeVar

T = TypeVar("T")
K = TypeVar("K", bound=Hashable)


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


def medians(ways: Mapping[K, Callable[[], float]], *, seconds: float, rounds: int) -> dict[K, float]:
    """The median of what each way says that it took, all of them asked in turn until so many seconds or rounds are
    over. The first round is a warm-up, where there is another."""
    times: dict[K, list[float]] = {name: [] for name in ways}
    start = time.perf_counter()
    for _ in range(rounds):
        for name, ask in ways.items():
            times[name].append(ask())
        if time.perf_counter() - start >= seconds:
            break
    return {name: median(own[1:] or own) for name, own in times.items()}


def timed(act: Callable[[], object]) -> float:
    """Seconds that it takes."""
    start = time.perf_counter()
    act()
    return time.perf_counter() - start
