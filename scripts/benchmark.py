"""Times mbtrain against the loop one writes by hand, and against Lightning: benchmarks/results.json and README.md.

    python scripts/benchmark.py                        the loop: all cases and peers, side by side, about 50 minutes
    python scripts/benchmark.py --quick                the same on fewer samples, minutes; printed, not kept
    python scripts/benchmark.py --cases tiny,mlp32     some cases; the others keep the figures they had
    python scripts/benchmark.py --peers ours template  some peers; a whole name, or a part of names
    python scripts/benchmark.py --alone                the goals by the wall clock: each process alone on the core
    python scripts/benchmark.py --probes --norm        what each probe costs; BN groups: free reshape, copy, loop
    python scripts/benchmark.py --checkpoints          what a checkpoint every 100 iterations costs
    python scripts/benchmark.py --threads              each number of threads (wants an idle machine)
    python scripts/benchmark.py --startup --costs      start-up; one more metric, wandb, weights and tensors
    python scripts/benchmark.py --long                 10^6 iterations logged, their report and live page
    python scripts/benchmark.py --check                measure the goals again, five minutes: has anything moved?
    python scripts/benchmark.py --figure               draw docs/performance-CASE.png from results.json

Side by side: peer and reference run in a process each, on the same core at the same time; the kernel deals it out in
turns of a few milliseconds, so that whatever slows the core down slows down both. Compared is the CPU time of an
iteration.
"""

import argparse
import os
import shlex
import sys
import tempfile
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks"
FLAGS = {
    "alone": "the loop by the wall clock, each process alone, instead",
    "norm": "the table of batch norm over BN groups instead",
    "probes": "the table of probes instead",
    "checkpoints": "the table of checkpoints instead",
    "threads": "the table of threads instead",
    "startup": "the table of start-up instead",
    "costs": "the table of a logged metric, wandb, weights and tensors instead",
    "long": "the table of one very long run instead",
}
GOAL_CASES = "tiny32,mlp32,mlp256,cnn32,mlp8x32"
GOAL_PEERS = ("ours", "ours, torch.optim", "ours, compiled")
QUICK_SAMPLES, QUICK_ROUNDS, CHECK_ROUNDS, ROUNDS = 2_000, 2, 3, 6
QUICK_SECONDS, SECONDS = 0.3, 2.5
QUICK_ROWS, ROWS = 5_000, 1_000_000


def main(arguments: Sequence[str] | None = None) -> None:
    options = parsed(arguments)
    if not options.threads:
        os.environ["OMP_NUM_THREADS"] = "1"
    # This process forks others, and may look at a GPU only in a way that leaves it to them.
    os.environ["PYTORCH_NVML_BASED_CUDA_CHECK"] = "1"
    # A compilation ends with its process.
    os.environ["TORCHINDUCTOR_COMPILE_THREADS"] = "1"
    # What is measured is the checkout that this file lies in, whatever is installed.
    sys.path.insert(0, str(ROOT))
    warnings.filterwarnings("ignore", message=".*srun")
    import torch
    from timing.page import page
    from timing.record import Record, circumstances

    if not options.threads:
        torch.set_num_threads(1)
    command = shlex.join(["python", "scripts/benchmark.py", *(sys.argv[1:] if arguments is None else arguments)])
    if options.check:
        sys.exit(check(options, Record(RESULTS).tables.get("loops", {})))
    if options.figure:
        from timing.figure import drawn

        print(*drawn(Record(RESULTS).tables["loops"], ROOT / "docs"), sep="\n")
        return
    at, record = circumstances(command), Record(options.out)
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        for table, content in tables(options, Path(folder)):
            record.add(table, content, at)
    if options.out is None:
        print(page(record.tables))


def check(options: argparse.Namespace, recorded: Mapping[str, Any]) -> int:
    """Measure the goals' cases again, a few rounds of them, and say what moved: 1 where something became slower."""
    from timing.check import PEERS, compared

    options.cases, options.peers = options.cases or GOAL_CASES, options.peers or PEERS
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        now = {name: case for _, content in tables(options, Path(folder)) for name, case in content.items()}
    found = list(compared(recorded, now))
    if not found:
        sys.exit("--check: the record has none of these cases and peers: python scripts/benchmark.py measures them")
    print(*(one.line() for one in found), sep="\n")
    return int(any(one.is_slower for one in found))


def parsed(arguments: Sequence[str] | None) -> argparse.Namespace:
    description, examples = (__doc__ or "").split("\n\n", 1)
    parser = argparse.ArgumentParser(
        description=description, epilog=examples, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--cases", help="which, or a network's name (default: all; alone: those of the goals)")
    parser.add_argument("--peers", nargs="+", help="whole names of peers, or parts of names (default: all)")
    parser.add_argument("--rounds", type=int, help=f"pairs a peer (default {ROUNDS}, quick {QUICK_ROUNDS})")
    parser.add_argument("--seconds", type=float, help=f"at least, a pair (default {SECONDS}, quick {QUICK_SECONDS})")
    parser.add_argument("--samples", type=int, help=f"at most, an epoch (default 20,000, quick {QUICK_SAMPLES:,})")
    parser.add_argument("--rows", type=int, help=f"iterations of --long (default {ROWS:,}, quick {QUICK_ROWS:,})")
    parser.add_argument("--quick", action="store_true", help="few samples and rounds, short pairs")
    parser.add_argument("--check", action="store_true", help="compare with the record; exit code 1 where slower")
    parser.add_argument("--figure", action="store_true", help="draw the record: docs/performance-CASE.png")
    parser.add_argument("--out", type=Path, help="folder of results.json and README.md (benchmarks, quick: none)")
    for name, what in FLAGS.items():
        parser.add_argument(f"--{name}", action="store_true", help=what)
    options = parser.parse_args(arguments)
    options.rounds = options.rounds or (QUICK_ROUNDS if options.quick else CHECK_ROUNDS if options.check else ROUNDS)
    options.seconds = options.seconds or (QUICK_SECONDS if options.quick else SECONDS)
    options.rows = options.rows or (QUICK_ROWS if options.quick else ROWS)
    options.out = options.out or (None if options.quick else RESULTS)
    options.samples = options.samples or (QUICK_SAMPLES if options.quick else None)
    return options


def tables(options: argparse.Namespace, folder: Path) -> Iterator[tuple[str, Any]]:
    """(name, content) of each table asked for, as soon as it is measured."""
    # What a forked process would else import itself.
    from timing.pairs import Way

    from mbtrain import one_run  # noqa: F401

    way = Way(options.rounds, options.seconds, tell, core=_core())
    # Two processes share the time of a core; on a GPU, or where none can be kept to one core, each runs alone.
    names = [name for name in FLAGS if getattr(options, name)] or ["loops" if way.core is not None else "alone"]
    for name in names:
        yield from _table(name, options, folder, way)


def _core() -> int | None:
    """Where everything runs; on a GPU, whose host threads hardly compute, anywhere."""
    from timing.span import DEVICE

    if DEVICE.type == "cuda" or not hasattr(os, "sched_getaffinity"):
        return None
    return max(os.sched_getaffinity(0))


def _table(name: str, options: argparse.Namespace, folder: Path, way: Any) -> Iterator[tuple[str, Any]]:
    from timing import checkpoints, costs, long, loops, norm, probes, startup, threads
    from timing.cases import CASES, chosen, thread_cases

    def cases(names: str) -> list[Any]:
        found = chosen(options.cases or names)
        return [case.shortened(options.samples) if options.samples else case for case in found]

    if name == "loops":
        for case in cases(",".join(CASES)):
            yield name, {case.name: loops.measured(case, folder, way, words=options.peers)}
    elif name == "alone":
        for case in cases(GOAL_CASES):
            words = options.peers or GOAL_PEERS
            yield name, {case.name: loops.measured(case, folder, way.alone(), words=words)}
    elif name == "norm":
        yield name, norm.measured(way)
    elif name == "probes":
        yield name, probes.measured(folder, way, samples=options.samples)
    elif name == "checkpoints":
        yield name, checkpoints.measured(folder, way, samples=options.samples)
    elif name == "startup":
        yield name, startup.measured(folder, way)
    elif name == "costs":
        yield name, costs.measured(folder, way, samples=options.samples)
    elif name == "long":
        yield name, long.measured(folder, way, num_rows=options.rows)
    else:
        found = cases(",".join(case.name for case in thread_cases()))
        yield name, threads.measured(found, folder, way.alone().free())


def tell(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
