"""benchmarks/README.md from results.json: what was measured beside the goals, met or not."""

import statistics
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from timing import page_sections
from timing.page_table import circumstances, how, load, ratio, table

CASES = {
    "tiny32": "tiny 32",
    "mlp32": "mlp 32",
    "mlp256": "mlp 256",
    "cnn32": "BN CNN 32",
    "mlp8x32": "mlp 256 = 8 x 32",
    "tiny2x16": "tiny 32 = 2 x 16",
    "tiny8": "tiny 8",
    "tiny1024": "tiny 1024",
    "mlp1024": "mlp 1024",
    "tiny32-adamw": "tiny 32, AdamW",
    "mlp32-adamw": "mlp 32, AdamW",
    "cnn8x32": "BN CNN 256 = 8 x 32",
    "cnn256": "BN CNN 256",
    "cnn256-groups": "BN CNN 256, 8 BN groups (over none)",
    "resnet32": "ResNet-8 32",
}
CLOCKS = {"wall": "wall", "cpu": "CPU"}
HEAD = """# Speed
CPU time of an iteration over whole epochs, as a ratio to (a), the loop one writes by hand without any logging: tensors
in memory, `randperm`, `index_select`, cross entropy, `zero_grad`, `backward`, `torch.optim.SGD(fused=True)`.
Ours is a whole run: every iteration's loss, accuracy and learning rate are on disk, flushes and epoch ends included;
validation and checkpoints are off, as they are for all.
Peer and (a) run side by side: a process each, on one core at the same time, which the kernel deals out in turns of a
few milliseconds, so that whatever slows the core down slows down both. Compared is the CPU time of each process, all of
its threads, over the span in which both run. A figure is the median over rounds, each with fresh processes; its
quartiles stand in brackets. The wall clock's ratios, each process alone on the core, have a table of their own.
tiny = MLP 64-64-10, mlp = 784-256-10, BN CNN = two blocks of 3x3 convolution (32, 64), batch norm, ReLU and pooling
on 28x28 pixels, ResNet-8 on 3x32x32. Load is the number of runnable tasks on the machine in the minute before.
This page is written by `scripts/benchmark.py` from results.json, which holds every pair.
"""


class Goal(NamedTuple):
    """At most `bound` times (a) for a peer on a case."""

    peer: str
    case: str
    bound: float


# With each iteration logged; "ours" calls torch.optim's kernels directly. The last: how many times ours they cost.
GOALS = tuple(
    Goal(peer, case, bound)
    for peer, bounds in {
        "ours": {"tiny32": 0.85, "mlp32": 0.97, "mlp256": 1.00},
        "ours, torch.optim": {"tiny32": 1.15, "mlp32": 1.08, "mlp256": 1.04},
        "ours, compiled": {
            "tiny32": 0.45,
            "mlp32": 0.82,
            "mlp256": 0.93,
            "cnn32": 0.82,
            "mlp8x32": 0.75,
            "tiny2x16": 0.35,
        },
    }.items()
    for case, bound in bounds.items()
)
TEMPLATE, TEMPLATE_GOALS = "Lightning, template's module, CSV", {"tiny32": 12, "mlp32": 4.5, "mlp256": 2.2}


def page(results: Mapping[str, Any]) -> str:
    """The whole page."""
    sections = {
        "loops": _loops,
        "alone": _alone,
        "norm": _norm,
        "threads": _threads,
        "checkpoints": _checkpoints,
        "probes": _probes,
        "startup": page_sections.start_up,
        "costs": page_sections.costs,
        "long": page_sections.long,
    }
    parts = [HEAD, *(section(results[name]) for name, section in sections.items() if name in results)]
    if "loops" in results:
        parts.insert(1, _goals(results["loops"], results.get("alone", {})))
        parts.insert(3, page_sections.choices(results["loops"], CASES))
    return "\n".join(filter(None, parts))


def _loops(loops: Mapping[str, Any]) -> str:
    names = [name for name in CASES if name in loops]
    peers = list(dict.fromkeys(peer for name in names for peer in loops[name]["peers"]))
    rows = []
    for name in names:
        found = loops[name]["peers"]
        rows.append(
            [
                CASES[name],
                f"{_reference_us(loops[name], 'cpu'):,.0f}",
                *(ratio(found.get(peer), "cpu") for peer in peers),
            ]
        )
    text = "## The loop, side by side\n" + table(["case", "(a), us", *peers], rows)
    equal = [CASES[name] for name in names if loops[name].get("is_bit_equal")]
    text += f"\n(a') leaves the weights of (a) bit for bit: {', '.join(equal) or 'not looked at'}.\n\n"
    return text + "".join(_measured(loops, names))


def _alone(loops: Mapping[str, Any]) -> str:
    names = [name for name in CASES if name in loops]
    rows = [
        [CASES[name], peer, f"{row['wall']['reference_us']:,.0f}", *(ratio(row, clock) for clock in CLOCKS)]
        for name in names
        for peer, row in loops[name]["peers"].items()
    ]
    text = "## The loop, each process alone\n" + table(["case", "", "(a), us", *CLOCKS.values()], rows)
    return text + "\n" + "".join(_measured(loops, names))


def _measured(loops: Mapping[str, Any], names: Iterable[str]) -> Iterable[str]:
    """Where and when, once for all that one command measured."""
    told: dict[str, list[str]] = {}
    for name in names:
        for row in loops[name]["peers"].values():
            line = circumstances(row, "").replace("- : ", "")
            told.setdefault(line, []).append(name)
    for line, cases in told.items():
        rows = [row for name in cases for row in loops[name]["peers"].values()]
        loads = [one for row in rows for one in (row["load"]["before"][0], row["load"]["after"][0])]
        yield (
            f"- {', '.join(dict.fromkeys(cases))}: {rows[0]['rounds']} rounds of {rows[0]['seconds']} s, load "
            f"{min(loads)} to {max(loads)}; {line}"
        )


def _goals(loops: Mapping[str, Any], alone: Mapping[str, Any]) -> str:
    rows = []
    for goal in GOALS:
        found, wall = (table.get(goal.case, {"peers": {}})["peers"].get(goal.peer) for table in (loops, alone))
        verdict = "not measured" if found is None else "met" if found["cpu"]["ratio"] <= goal.bound else "not met"
        rows.append(
            [goal.peer, CASES[goal.case], f"<= {goal.bound:.2f}", ratio(found, "cpu"), ratio(wall, "wall"), verdict]
        )
    for case, bound in TEMPLATE_GOALS.items():
        peers = loops.get(case, {"peers": {}})["peers"]
        if {TEMPLATE, "ours"} <= peers.keys():
            times = peers[TEMPLATE]["cpu"]["ratio"] / peers["ours"]["cpu"]["ratio"]
            verdict = "met" if times >= bound else "not met"
            rows.append([f"{TEMPLATE}, over ours", CASES[case], f">= {bound}", f"**{times:.1f}**", "-", verdict])
    head = ["", "case", "goal", "side by side, CPU", "alone, wall", "side by side"]
    return "## Goals\n" + table(head, rows)


def _norm(norm: Mapping[str, Any]) -> str:
    shape, names = norm["shape"], list(norm["tables"])
    ways = list(norm["tables"][names[0]])
    references = (norm["tables"][name][ways[0]]["cpu"]["reference_us"] for name in names)
    rows = [["nn.BatchNorm2d over the batch, us", *(f"{one:,.0f}" for one in references)]]
    rows += [[way, *(ratio(norm["tables"][name][way], "cpu") for name in names)] for way in ways]
    text = (
        f"## Batch norm over BN groups\nForward and backward, batch {shape['batch_size']} in groups of "
        f"{shape['group_size']}, {shape['channels']} channels of {shape['pixels']}x{shape['pixels']}; ratios to plain "
        f"batch norm, CPU time, {how(norm)}; load {load(norm)}.\n"
    )
    return text + table(["", *names], rows) + "\n" + circumstances(norm, "norm")


def _threads(threads: Mapping[str, Any]) -> str:
    rows = []
    for name, row in sorted(threads["cases"].items(), key=lambda item: item[1]["forward_flops"]):
        choices = row["choices"]
        one_us = f"{choices['auto']['wall']['reference_us']:,.0f}"
        ratios = (ratio(found, "wall") for found in choices.values())
        over = (f"{row['over_best'][choice]:.2f}" for choice in ("null", "auto"))
        rows.append([name, f"{row['forward_flops']:.2g}", one_us, *ratios, *over])
    text = (
        "## Threads\nOurs, wall time, not pinned, each alone; ratios to one thread. The default, `threads=null`, "
        f"takes one thread below {threads['flops_worth_threads']:.2g} forward FLOPs a micro-batch. Goal: at most 1.05 "
        f"times the best fixed number; load {load(threads)}.\n"
    )
    choices = [f"{one} threads" if one.isdigit() else one for one in next(iter(threads["cases"].values()))["choices"]]
    over = ["null over the best", "auto over the best"]
    head = ["case", "forward FLOPs a micro-batch", "1 thread, us", *choices, *over]
    return text + table(head, rows) + "\n" + circumstances(threads, "threads")


def _checkpoints(found: Mapping[str, Any]) -> str:
    rows = [
        [
            name,
            f"{row['weights']:,}",
            f"{row['wall']['reference_us']:,.0f}",
            *(ratio(row, clock) for clock in CLOCKS),
            f"{row['held_ms']} ({row['held_percent']} %)",
            f"{row['written_ms']}",
        ]
        for name, row in found["cases"].items()
    ]
    text = (
        f"## Checkpoints\nOurs with checkpoint.every={found['every']} against ours without: snapshot, hash, flush to "
        f"disk and all; {how(found)}; load {load(found)}.\n"
    )
    text += "Held up: CPU time of the training's thread in one save, and its share of 100 iterations.\n"
    head = ["case", "weights", "without, us an iteration", "wall", "CPU, all threads", "held up, ms", "its thread, ms"]
    return text + table(head, rows) + "\n" + circumstances(found, "checkpoints")


def _probes(found: Mapping[str, Any]) -> str:
    rows = [
        [
            row["probe"],
            row["case"],
            f"{row['cpu']['reference_us']:,.0f}",
            f"{100 * (row['cpu']['ratio'] - 1):+.1f} %",
            *(f"{100 * (one - 1):+.1f}" for one in row["cpu"]["quartiles"]),
        ]
        for row in found["rows"]
    ]
    text = (
        "## Probes\nOurs with a probe that measures at every iteration (a preset: when it does) against ours without, "
        f"side by side; {found['rounds']} rounds of {found['seconds']} s; load {load(found)}.\n"
    )
    head = ["probe", "case", "without, us of CPU time", "CPU", "lower quartile", "upper quartile"]
    return text + table(head, rows) + "\n" + circumstances(found, "probes")


def _reference_us(case: Mapping[str, Any], clock: str) -> float:
    return statistics.median(peer[clock]["reference_us"] for peer in case["peers"].values())
