"""Pairs: each peer beside the reference, round by round, and what the rounds come to."""

import os
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from timing.child import alone, in_turns, side_by_side
from timing.span import DEVICE, Peer, Seconds

Pair = tuple[Seconds, Seconds]


@dataclass(frozen=True)
class Way:
    """How pairs are measured: both at once on one core, or each alone, in turns (on a GPU: one after the other)."""

    rounds: int
    seconds: float
    tell: Callable[[str], None]
    is_together: bool = True
    core: int | None = None

    def pairs(self, reference: Peer, peers: Mapping[str, Peer]) -> dict[str, list[Pair]]:
        """Seconds per iteration of (reference, peer), round by round, by peer; now one begins, now the other."""
        pairs: dict[str, list[Pair]] = {name: [] for name in peers}
        for index in range(self.rounds):
            for name, peer in peers.items():
                pairs[name].append(self._pair(reference, peer, is_turned=index % 2 == 1))
                one, two = pairs[name][-1]
                ratios = f"wall {two.wall / one.wall:.3f}, CPU {two.cpu / one.cpu:.3f}"
                self.tell(f"  round {index + 1} of {self.rounds}, {name}: {ratios}")
        return pairs

    def _pair(self, reference: Peer, peer: Peer, *, is_turned: bool) -> Pair:
        order = (peer, reference) if is_turned else (reference, peer)
        if DEVICE.type == "cuda" and not self.is_together:
            one, two = (alone(each, seconds=self.seconds, core=self.core) for each in order)
        else:
            measure = side_by_side if self.is_together else in_turns
            one, two = measure(*order, seconds=self.seconds, core=self.core)
        return (two, one) if is_turned else (one, two)

    def alone(self) -> "Way":
        """The same, one process at a time."""
        return replace(self, is_together=False)

    def free(self) -> "Way":
        """The same on whatever cores there are."""
        return replace(self, core=None)

    def described(self) -> dict[str, Any]:
        """For the record."""
        return {"is_together": self.is_together, "rounds": self.rounds, "seconds": self.seconds}


def summary(pairs: Sequence[Pair]) -> dict[str, Any]:
    """Median and quartiles of the ratios of wall and CPU time, pair by pair, and their medians in microseconds."""
    return {
        "wall": _ratios([(reference.wall, peer.wall) for reference, peer in pairs]),
        "cpu": _ratios([(reference.cpu, peer.cpu) for reference, peer in pairs]),
    }


def _ratios(pairs: Sequence[tuple[float, float]]) -> dict[str, Any]:
    ratios = [peer / reference for reference, peer in pairs]
    low, middle, high = quartiles(ratios)
    return {
        "ratio": round(middle, 4),
        "quartiles": [round(low, 4), round(high, 4)],
        "ratios": [round(one, 4) for one in ratios],
        "us": round(1e6 * statistics.median(peer for _, peer in pairs), 1),
        "reference_us": round(1e6 * statistics.median(reference for reference, _ in pairs), 1),
    }


def quartiles(values: Sequence[float]) -> tuple[float, float, float]:
    """Lower quartile, median, upper quartile; all the same for a single value."""
    if len(values) == 1:
        return values[0], values[0], values[0]
    low, middle, high = statistics.quantiles(values, n=4, method="inclusive")
    return low, middle, high


def load() -> list[float]:
    """Runnable tasks on the machine over 1, 5 and 15 minutes: how busy others kept it."""
    return [round(one, 2) for one in os.getloadavg()]
