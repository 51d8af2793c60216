"""Whether the ratios of now are those of the record: what moved by more than the rounds of both are spread."""

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

# What is measured again, and how much of a ratio is never told from noise: the same pair again differs by that.
PEERS = ("(a')", "ours", "ours, compiled")
ALWAYS = 0.03


class Compared(NamedTuple):
    """A peer's ratio in the record and now; it moved where they differ by more than `tolerance`."""

    case: str
    peer: str
    recorded: float
    now: float
    tolerance: float

    @property
    def has_moved(self) -> bool:
        """In either direction."""
        return abs(self.now - self.recorded) > self.tolerance

    @property
    def is_slower(self) -> bool:
        """Moved, and to a larger ratio."""
        return self.has_moved and self.now > self.recorded

    def line(self) -> str:
        """One line of the answer."""
        verdict = "slower" if self.is_slower else "faster" if self.has_moved else "as recorded"
        return f"{self.case}, {self.peer}: {self.recorded:.3f} -> {self.now:.3f} (+-{self.tolerance:.3f}) {verdict}"


def compared(recorded: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[Compared]:
    """Each peer of a case that both tables of loops have, by CPU time side by side."""
    for case, content in now.items():
        for peer, row in content["peers"].items():
            before = recorded.get(case, {"peers": {}})["peers"].get(peer)
            if before is not None:
                yield _one(case, peer, before["cpu"], row["cpu"])


def _one(case: str, peer: str, before: Mapping[str, Any], now: Mapping[str, Any]) -> Compared:
    spread = sum((max(one["ratios"]) - min(one["ratios"])) / 2 for one in (before, now))
    tolerance = max(ALWAYS * before["ratio"], spread)
    return Compared(case, peer, before["ratio"], now["ratio"], tolerance)
