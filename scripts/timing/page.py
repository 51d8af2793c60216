"""benchmarks/README.md from results.json: what was measured beside the goals, met or not."""

import statistics
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

CASES = {
    "tiny32": "tiny 32",
    "mlp32": "mlp 32",
    "mlp256": "mlp 256",
    "cnn32": "BN CNN 32",
    "mlp8x32": "mlp 256 = 8 x 32",
}
CLOCKS = {"wall": "wall", "cpu": "CPU"}
HEAD = """# Speed
Mean time of an iteration over whole epochs, as a ratio to (a), the loop one writes by hand without any logging:
tensors in memory, `randperm`, `index_select`, cross entropy, `zero_grad`, `backward`, `torch.optim.SGD(fused=True)`.
Ours is a whole run: every iteration's loss, accuracy and learning rate are on disk, flushes and epoch ends included;
validation and checkpoints are off, as they are for all.
Each ratio is the median over alternating pairs (peer, (a)) measured back to back, its quartiles in brackets. Wall is
what the clock on the wall says; CPU is the process' CPU time, all of its threads, which leaves out what other
processes take of the core: on an idle machine the two agree.
tiny = MLP 64-64-10, mlp = 784-256-10, BN CNN = two blocks of 3x3 convolution (32, 64), batch norm, ReLU and pooling
on 28x28 pixels. Load is the number of runnable tasks on the machine in the minute before.
This page is written by `scripts/benchmark.py` from results.json, which holds every pair.
"""


class Goal(NamedTuple):
    """At most `bound` times (a) for a peer on a case."""

    peer: str
    case: str
    bound: float


# Goals with each iteration logged. "ours" calls torch.optim's kernels directly; what is not there yet is not measured.
GOALS = tuple(
    Goal(peer, case, bound)
    for peer, bounds in {
        "ours": {"tiny32": 0.85, "mlp32": 0.97, "mlp256": 1.00},
        "ours, torch.optim": {"tiny32": 1.15, "mlp32": 1.08, "mlp256": 1.04},
        "ours, compiled": {"tiny32": 0.45, "mlp32": 0.82, "mlp256": 0.93, "cnn32": 0.82, "mlp8x32": 0.75},
    }.items()
    for case, bound in bounds.items()
)


def page(results: Mapping[str, Any]) -> str:
    """The whole page."""
    parts = [HEAD]
    if "loops" in results:
        parts += [_loops(results["loops"]), _goals(results["loops"])]
    if "norm" in results:
        parts.append(_norm(results["norm"]))
    if "threads" in results:
        parts.append(_threads(results["threads"]))
    if "checkpoints" in results:
        parts.append(_checkpoints(results["checkpoints"]))
    if "probes" in results:
        parts.append(_probes(results["probes"]))
    return "\n".join(parts)


def _loops(loops: Mapping[str, Any]) -> str:
    names = [name for name in CASES if name in loops]
    peers = list(dict.fromkeys(peer for name in names for peer in loops[name]["peers"]))
    rows = []
    for clock, spoken in CLOCKS.items():
        rows.append([f"(a), us of {spoken} time", *(f"{_reference_us(loops[name], clock):,.0f}" for name in names)])
        rows += [
            [f"{peer}, {spoken}", *(_ratio(loops[name]["peers"].get(peer), clock) for name in names)] for peer in peers
        ]
    rows.append(["(a') leaves the weights of (a)", *(_equality(loops[name]) for name in names)])
    rows.append(["rounds, samples", *(f"{loops[name]['rounds']}, {loops[name]['num_samples']:,}" for name in names)])
    rows.append(["load before, after", *(_load(loops[name]) for name in names)])
    text = "## The loop\n" + _table(["", *(CASES[name] for name in names)], rows)
    return text + "\n" + "".join(_circumstances(loops[name], name) for name in names)


def _goals(loops: Mapping[str, Any]) -> str:
    rows = []
    for goal in GOALS:
        found = loops.get(goal.case, {"peers": {}})["peers"].get(goal.peer)
        verdict = "not measured" if found is None else "met" if found["wall"]["ratio"] <= goal.bound else "not met"
        ratios = (_ratio(found, clock) for clock in CLOCKS)
        rows.append([goal.peer, CASES[goal.case], f"<= {goal.bound:.2f}", *ratios, verdict])
    return "## Goals\nOf wall time.\n" + _table(["", "case", "goal", "wall", "CPU", ""], rows)


def _norm(norm: Mapping[str, Any]) -> str:
    shape, names = norm["shape"], list(norm["tables"])
    ways = list(norm["tables"][names[0]])
    columns = [(name, clock) for name in names for clock in CLOCKS]
    references = (norm["tables"][name][ways[0]][clock]["reference_us"] for name, clock in columns)
    rows = [["nn.BatchNorm2d over the batch, us", *(f"{one:,.0f}" for one in references)]]
    rows += [[way, *(_ratio(norm["tables"][name][way], clock) for name, clock in columns)] for way in ways]
    text = (
        f"## Batch norm over BN groups\nForward and backward, batch {shape['batch_size']} in groups of "
        f"{shape['group_size']}, {shape['channels']} channels of {shape['pixels']}x{shape['pixels']}; ratios to plain "
        f"batch norm; load {_load(norm)}.\n"
    )
    head = ["", *(f"{name}, {CLOCKS[clock]}" for name, clock in columns)]
    return text + _table(head, rows) + "\n" + _circumstances(norm, "norm")


def _threads(threads: Mapping[str, Any]) -> str:
    rows = []
    for name, row in sorted(threads["cases"].items(), key=lambda item: item[1]["forward_flops"]):
        wall = row["wall"]
        times = (f"{wall[key]:,.0f}" for key in ("reference_us", "us"))
        rows.append([name, f"{row['forward_flops']:.2g}", *times, _ratio(row, "wall")])
    text = (
        "## Threads\nOurs with two threads against one, wall time, not pinned. `trainer.threads=null` takes one thread "
        f"below {threads['flops_worth_threads']:.2g} forward FLOPs a micro-batch; load {_load(threads)}.\n"
    )
    head = ["case", "forward FLOPs a micro-batch", "1 thread, us", "2 threads, us", "ratio"]
    return text + _table(head, rows) + "\n" + _circumstances(threads, "threads")


def _checkpoints(table: Mapping[str, Any]) -> str:
    rows = [
        [
            name,
            f"{row['weights']:,}",
            f"{row['wall']['reference_us']:,.0f}",
            *(_ratio(row, clock) for clock in CLOCKS),
            f"{row['held_ms']} ({row['held_percent']} %)",
            f"{row['written_ms']}",
        ]
        for name, row in table["cases"].items()
    ]
    text = (
        f"## Checkpoints\nOurs with checkpoint.every={table['every']} against ours without: snapshot, hash, flush to "
        f"disk and all; one thread of computation, not pinned; load {_load(table)}.\n"
    )
    text += "Held up: CPU time of the training's thread in one save, and its share of 100 iterations.\n"
    head = ["case", "weights", "without, us an iteration", "wall", "CPU, all threads", "held up, ms", "its thread, ms"]
    return text + _table(head, rows) + "\n" + _circumstances(table, "checkpoints")


def _probes(table: Mapping[str, Any]) -> str:
    rows = [
        [
            row["probe"],
            row["case"],
            f"{row['cpu']['reference_us']:,.0f}",
            *(f"{100 * (row[clock]['ratio'] - 1):+.1f} %" for clock in CLOCKS),
            *(f"{100 * (one - 1):+.1f}" for one in row["cpu"]["quartiles"]),
        ]
        for row in table["rows"]
    ]
    text = (
        "## Probes\nOurs with a probe that measures at every iteration (a preset: when it does) against ours without, "
        f"one core; medians over alternating pairs; load {_load(table)}.\n"
    )
    clocks = list(CLOCKS.values())
    head = ["probe", "case", "without, us of CPU time", *clocks, "lower quartile", "upper quartile"]
    return text + _table(head, rows) + "\n" + _circumstances(table, "probes")


def _ratio(found: Mapping[str, Any] | None, clock: str) -> str:
    if found is None:
        return "-"
    low, high = found[clock]["quartiles"]
    return f"**{found[clock]['ratio']:.2f}** ({low:.2f}-{high:.2f})"


def _reference_us(case: Mapping[str, Any], clock: str) -> float:
    return statistics.median(peer[clock]["reference_us"] for peer in case["peers"].values())


def _equality(case: Mapping[str, Any]) -> str:
    return {True: "bit for bit", False: "NO", None: "-"}[case["is_bit_equal"]]


def _load(table: Mapping[str, Any]) -> str:
    return f"{table['load']['before'][0]}, {table['load']['after'][0]}"


def _circumstances(table: Mapping[str, Any], name: str) -> str:
    at = table["circumstances"]
    machine, versions = at["machine"], ", ".join(f"{key} {value}" for key, value in at["versions"].items())
    gpu = f", {', '.join(machine['gpu'])}, CUDA {machine['cuda']}" if "gpu" in machine else ""
    changed = " with changes" if at["is_changed"] else ""
    return (
        f"- {name}: {at['date']}, {machine['processor']}, {machine['cores_used']} of {machine['cores']} cores{gpu}; "
        f"{versions}; commit {at['commit'] or 'unknown'}{changed}; `{at['command']}`, niceness {at['niceness']}\n"
    )


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)
