"""Alternating pairs: a peer beside the reference, now before it, now after, so that a machine's moods cancel."""

import os
import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from timing.span import Seconds

# Seconds per iteration over whole epochs.
Peer = Callable[[], Seconds]


def alternated(
    reference: Peer, peers: Mapping[str, Peer], *, rounds: int, tell: Callable[[str], None]
) -> dict[str, list[tuple[Seconds, Seconds]]]:
    """(reference, peer) seconds of every round, by peer; each pair is measured back to back, in alternating order."""
    pairs: dict[str, list[tuple[Seconds, Seconds]]] = {name: [] for name in peers}
    for index in range(rounds):
        names = list(peers)[:: 1 if index % 2 == 0 else -1]
        for name in names:
            if index % 2 == 0:
                first = reference()
                pairs[name].append((first, peers[name]()))
            else:
                second = peers[name]()
                pairs[name].append((reference(), second))
        newest = {name: made[-1] for name, made in pairs.items()}
        ratios = (f"{name} {two.wall / one.wall:.2f}|{two.cpu / one.cpu:.2f}" for name, (one, two) in newest.items())
        tell(f"  round {index + 1} of {rounds}, wall|CPU: {', '.join(ratios)}")
    return pairs


def summary(pairs: Sequence[tuple[Seconds, Seconds]]) -> dict[str, Any]:
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
