"""What the tables of the page are made of."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any


def ratio(found: Mapping[str, Any] | None, clock: str) -> str:
    """Median, quartiles in brackets; a dash where nothing was measured."""
    if found is None:
        return "-"
    low, high = found[clock]["quartiles"]
    return f"**{found[clock]['ratio']:.2f}** ({low:.2f}-{high:.2f})"


def how(found: Mapping[str, Any]) -> str:
    """What a table's pairs are: records from before there was a choice were alternating."""
    return "side by side" if found.get("is_together", False) else "one after the other"


def load(found: Mapping[str, Any]) -> str:
    """Runnable tasks before and after."""
    return f"{found['load']['before'][0]}, {found['load']['after'][0]}"


def circumstances(found: Mapping[str, Any], name: str) -> str:
    """Where and when it was measured."""
    at = found["circumstances"]
    machine, versions = at["machine"], ", ".join(f"{key} {value}" for key, value in at["versions"].items())
    gpu = f", {', '.join(machine['gpu'])}, CUDA {machine['cuda']}" if "gpu" in machine else ""
    changed = " with changes" if at["is_changed"] else ""
    return (
        f"- {name}: {at['date']}, {machine['processor']}, {machine['cores_used']} of {machine['cores']} cores{gpu}; "
        f"{versions}; commit {at['commit'] or 'unknown'}{changed}; `{at['command']}`, niceness {at['niceness']}\n"
    )


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Of Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)
