"""The page's tables that are no ratios to the loop: start-up, what grows, the very long run."""

from collections.abc import Iterable, Mapping
from typing import Any

from timing import startup
from timing.page_table import circumstances, load, ratio, table


def start_up(found: Mapping[str, Any]) -> str:
    """Of commands."""
    rows = []
    for name, (low, middle, high) in found["cpu_s"].items():
        told, goal = (
            ("one more job of a sweep", startup.JOB_GOAL) if name == "sweep" else (name, startup.GOALS.get(name))
        )
        digits = 3 if name == "sweep" else 2
        verdict = "" if goal is None else f"<= {goal}: {'met' if middle <= goal else 'not met'}"
        rows.append([told, f"**{middle:.{digits}f}** ({low:.{digits}f}-{high:.{digits}f})", verdict])
    low, middle, high = found["first_update"]
    verdict = f"<= {startup.FIRST_UPDATE_GOAL}: {'met' if middle <= startup.FIRST_UPDATE_GOAL else 'not met'}"
    rows.append(["that run over that import", f"**{middle:.2f}** ({low:.2f}-{high:.2f})", verdict])
    text = (
        f"## Start-up\nSeconds of CPU time, all processes of a command, {found['rounds']} rounds in turn; the run is "
        f"of one iteration, its end included; load {load(found)}.\n"
    )
    return text + table(["command", "CPU s", "goal"], rows) + "\n" + circumstances(found, "startup")


def costs(found: Mapping[str, Any]) -> str:
    """Of metrics, wandb, weights, tensors."""
    low, middle, high = found["metric_us"]
    lines = [
        f"- One more logged number in every row: **{middle:.1f}** us of CPU time ({low:.1f}-{high:.1f}); goal <= 10.\n",
        *_wandb(found["wandb"]),
    ]
    rows = [
        [name, f"{row['weights']:,}", f"{row['tensors']}", f"{row['cpu']['reference_us']:,.0f}", ratio(row, "cpu")]
        + [str(one) for one in row["memory_mb"]]
        for name, row in found["sizes"].items()
    ]
    head = ["case", "weights", "tensors", "(a), us", "ours, side by side", "(a), MB", "ours, MB"]
    text = "## What grows\n" + "".join(lines) + "\n" + table(head, rows)
    return f"{text}\nMemory is each process' own, data and weights included; load {load(found)}.\n\n" + circumstances(
        found, "costs"
    )


def long(found: Mapping[str, Any]) -> str:
    """Of 10^6 rows."""
    rows = [[f"{row['rows']:,}", f"{row['us']:,.0f}", f"{row['resident_mb']}"] for row in found["by_rows"]]
    report, live = found["report"], found["live"]
    text = (
        f"## {found['rows']:,} iterations logged\ntiny 32, one core, a checkpoint every epoch; a log of "
        f"{found['log_bytes'] / 1e6:.0f} MB.\n"
    )
    text += table(["rows so far", "us of CPU time an iteration since the line before", "resident, MB"], rows)
    text += (
        f"\n`mbtrain-report`: {report['wall_s']} s ({report['cpu_s']} s of CPU time, at most {report['peak_mb']} MB). "
        f"`--live`: the first page after {live['open_s']} s, {live['page_mb']} MB, the next in {live['page_s']} s; "
        f"load {load(found)}.\n\n"
    )
    return text + circumstances(found, "long")


# What is left out, and how ours is then called.
CHOICES = {
    "kernels of the optimizer called directly": "ours, torch.optim",
    "the lean epoch loop in place of Lightning's": "ours, stock loop",
    "data in memory, gathered by index, in place of a DataLoader": "ours, DataLoader",
    "rows handed over 128 at a time, in place of one by one": "ours, row by row",
}


def choices(loops: Mapping[str, Any], names: Mapping[str, str]) -> str:
    """What an iteration costs without each design choice, over ours as it is; nothing where no case has them all."""
    cases = [name for name in names if {"ours", *CHOICES.values()} <= loops.get(name, {"peers": {}})["peers"].keys()]
    if not cases:
        return ""
    rows = [
        [choice, *(f"{_over(loops[name]['peers'], peer, 'ours'):.2f}" for name in cases)]
        for choice, peer in CHOICES.items()
    ]
    whole = [f"{_over(loops[name]['peers'], 'ours', 'ours, compiled'):.2f}" for name in cases]
    rows.append(["`trainer.engine=compiled`, in place of ours as it is", *whole])
    text = "## What each choice is worth\nCPU time of an iteration without it, side by side, over ours with it.\n"
    return text + table(["", *(names[name] for name in cases)], rows)


def _over(peers: Mapping[str, Any], without: str, with_it: str) -> float:
    return peers[without]["cpu"]["ratio"] / peers[with_it]["cpu"]["ratio"]


def _wandb(found: Mapping[str, Any]) -> Iterable[str]:
    yield (
        f"- wandb offline, by itself (`run.log` of twelve numbers in a loop): {found['bare_us']:.0f} us of CPU time a "
        "row, half of it in its own service.\n"
    )
    for name, row in found.items():
        if name != "bare_us":
            low, high = min(row["wall_ratios"]), max(row["wall_ratios"])
            yield (
                f"- wandb offline beside a run, {name}: **{row['beside_us']:.0f}** us of CPU time a row; wall time "
                f"**{row['wall_ratio']:.2f}** times that without ({low:.2f}-{high:.2f}), unpinned, where an iteration "
                f"takes {row['run_us']:,.0f} us; goal <= 1.03.\n"
            )
