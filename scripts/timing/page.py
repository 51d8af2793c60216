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
HEAD = """# Speed
Mean wall time of an iteration over whole epochs, as a ratio to (a), the loop one writes by hand without any logging:
tensors in memory, `randperm`, `index_select`, cross entropy, `zero_grad`, `backward`, `torch.optim.SGD(fused=True)`.
Ours is a whole run: every iteration's loss, accuracy and learning rate are on disk, flushes and epoch ends included.
Each ratio is the median over alternating pairs (peer, (a)) measured back to back, its quartiles in brackets.
tiny = MLP 64-64-10, mlp = 784-256-10, BN CNN = two blocks of 3x3 convolution (32, 64), batch
norm, ReLU and pooling on 28x28 pixels.
Load is the number of runnable tasks on the machine in the minute before: what is above 1 belongs to others.
This page is written by `scripts/benchmark.py` from results.json, which holds every pair.
"""


class Goal(NamedTuple):
    """At most `bound` times (a) for a peer on a case."""

    peer: str
    case: str
    bound: float


# The goals for each iteration logged; a peer that does not exist yet counts as not met.
GOALS = tuple(
    Goal(peer, case, bound)
    for peer, bounds in {
        "ours": {"tiny32": 1.15, "mlp32": 1.08, "mlp256": 1.04},
        "ours, direct optimizer": {"tiny32": 0.85, "mlp32": 0.97, "mlp256": 1.00},
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
    return "\n".join(parts)


def _loops(loops: Mapping[str, Any]) -> str:
    names = [name for name in CASES if name in loops]
    peers = list(dict.fromkeys(peer for name in names for peer in loops[name]["peers"]))
    rows = [["(a), us per iteration", *(f"{_reference_us(loops[name]):,.0f}" for name in names)]]
    for peer in peers:
        rows.append([peer, *(_ratio(loops[name]["peers"].get(peer)) for name in names)])
    rows.append(["(a') leaves the weights of (a)", *(_equality(loops[name]) for name in names)])
    rows.append(["rounds, samples", *(f"{loops[name]['rounds']}, {loops[name]['num_samples']:,}" for name in names)])
    rows.append(["load before, after", *(_load(loops[name]) for name in names)])
    text = "## The loop\n" + _table(["", *(CASES[name] for name in names)], rows)
    return text + "\n" + "".join(_circumstances(loops[name], name) for name in names)


def _goals(loops: Mapping[str, Any]) -> str:
    rows = []
    for goal in GOALS:
        found = loops.get(goal.case, {"peers": {}})["peers"].get(goal.peer)
        verdict = "not there yet" if found is None else "met" if found["ratio"] <= goal.bound else "not met"
        rows.append([goal.peer, CASES[goal.case], f"<= {goal.bound:.2f}", _ratio(found), verdict])
    return "## Goals\n" + _table(["", "case", "goal", "measured", ""], rows)


def _norm(norm: Mapping[str, Any]) -> str:
    shape, names = norm["shape"], list(norm["tables"])
    ways = list(norm["tables"][names[0]])
    rows = [[way, *(_ratio(norm["tables"][name][way]) for name in names)] for way in ways]
    references = (norm["tables"][name][ways[0]]["reference_us"] for name in names)
    rows.insert(0, ["nn.BatchNorm2d over the batch, us", *(f"{one:,.0f}" for one in references)])
    text = (
        f"## Batch norm over BN groups\nForward and backward, batch {shape['batch_size']} in groups of "
        f"{shape['group_size']}, {shape['channels']} channels of {shape['pixels']}x{shape['pixels']}; ratios to plain "
        f"batch norm, load {_load(norm)}.\n"
    )
    return text + _table(["", *names], rows) + "\n" + _circumstances(norm, "norm")


def _threads(threads: Mapping[str, Any]) -> str:
    rows = [
        [name, f"{row['forward_flops']:.2g}", f"{row['reference_us']:,.0f}", f"{row['us']:,.0f}", _ratio(row)]
        for name, row in sorted(threads["cases"].items(), key=lambda item: item[1]["forward_flops"])
    ]
    text = (
        "## Threads\nOurs with two threads against one, not pinned. `trainer.threads=null` takes one thread below "
        f"{threads['flops_worth_threads']:.2g} forward FLOPs a micro-batch; load {_load(threads)}.\n"
    )
    head = ["case", "forward FLOPs a micro-batch", "1 thread, us", "2 threads, us", "ratio"]
    return text + _table(head, rows) + "\n" + _circumstances(threads, "threads")


def _ratio(found: Mapping[str, Any] | None) -> str:
    if found is None:
        return "-"
    low, high = found["quartiles"]
    return f"**{found['ratio']:.2f}** ({low:.2f}-{high:.2f})"


def _reference_us(case: Mapping[str, Any]) -> float:
    return statistics.median(peer["reference_us"] for peer in case["peers"].values())


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
        f"{versions}; commit {at['commit'] or 'unknown'}{changed}; `{at['command']}`\n"
    )


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)
