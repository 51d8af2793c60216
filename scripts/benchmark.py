"""Times mbtrain against the loop one writes by hand, and against Lightning: benchmarks/results.json and README.md.

    python scripts/benchmark.py                        all cases, about half an hour on one core
    python scripts/benchmark.py --quick                the same on fewer samples, under three minutes; printed, not kept
    python scripts/benchmark.py --cases tiny,mlp32     some of them; the others keep the figures they had
    python scripts/benchmark.py --norm                 BN groups: free reshape, copy, loop
    python scripts/benchmark.py --checkpoints          what a checkpoint every 100 iterations costs (not pinned)
    python scripts/benchmark.py --probes               what each probe costs
    python scripts/benchmark.py --threads              two threads against one (not pinned; wants an idle machine)

The whole process is pinned to one core and one thread, except for --threads and --checkpoints.
"""

import argparse
import os
import shlex
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

CASES = "tiny32,mlp32,mlp256,cnn32,mlp8x32"
ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks"
QUICK_SAMPLES, QUICK_ROUNDS, ROUNDS = 2_000, 2, 6


def main(arguments: Sequence[str] | None = None) -> None:
    options = parsed(arguments)
    if not options.threads and not options.checkpoints:
        pin()
    # What is measured is the checkout that this file lies in, whatever is installed.
    sys.path.insert(0, str(ROOT))
    # Only now: the threads that torch starts inherit where they may run.
    import torch
    from timing.page import page
    from timing.record import Record, circumstances

    torch.set_num_threads(1)
    command = shlex.join(["python", "scripts/benchmark.py", *(sys.argv[1:] if arguments is None else arguments)])
    at, record = circumstances(command), Record(options.out)
    with tempfile.TemporaryDirectory() as folder:
        for table, content in tables(options, Path(folder)):
            record.add(table, content, at)
    if options.out is None:
        print(page(record.tables))


def parsed(arguments: Sequence[str] | None) -> argparse.Namespace:
    description, examples = (__doc__ or "").split("\n\n", 1)
    parser = argparse.ArgumentParser(
        description=description, epilog=examples, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--cases", default=CASES, help=f"which, of {CASES}, or a network's name")
    parser.add_argument("--rounds", type=int, help=f"alternating pairs a peer (default {ROUNDS}, quick {QUICK_ROUNDS})")
    parser.add_argument(
        "--samples", type=int, help=f"samples an epoch (default 20,000, cnn 4,800, quick {QUICK_SAMPLES:,})"
    )
    parser.add_argument("--quick", action="store_true", help="few samples and rounds, one epoch at a time")
    parser.add_argument("--norm", action="store_true", help="the table of batch norm over BN groups instead")
    parser.add_argument("--threads", action="store_true", help="the table of threads instead")
    parser.add_argument("--out", type=Path, help="folder of results.json and README.md (benchmarks, quick: none)")
    parser.add_argument("--checkpoints", action="store_true", help="the table of checkpoints instead")
    parser.add_argument("--probes", action="store_true", help="the table of probes instead")
    options = parser.parse_args(arguments)
    options.rounds = options.rounds or (QUICK_ROUNDS if options.quick else ROUNDS)
    options.out = options.out or (None if options.quick else RESULTS)
    options.samples = options.samples or (QUICK_SAMPLES if options.quick else None)
    return options


def pin() -> None:
    """Keep the whole process on the last core it may use."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    os.environ["OMP_NUM_THREADS"] = "1"


def tables(options: argparse.Namespace, folder: Path) -> Any:
    """(name, content) of each table asked for, as soon as it is measured."""
    if options.norm:
        from timing import norm

        yield "norm", norm.measured(rounds=options.rounds, tell=tell)
    if options.threads:
        from timing import threads
        from timing.cases import thread_cases

        cases = [case.shortened(options.samples) if options.samples else case for case in thread_cases()]
        yield "threads", threads.measured(cases, folder, rounds=options.rounds, tell=tell)
    if options.checkpoints:
        from timing import checkpoints

        yield "checkpoints", checkpoints.measured(folder, samples=options.samples, rounds=options.rounds, tell=tell)
    if options.probes:
        from timing import probes

        yield "probes", probes.measured(folder, samples=options.samples, rounds=options.rounds, tell=tell)
    if not options.norm and not options.threads and not options.checkpoints and not options.probes:
        from timing import loops
        from timing.cases import chosen

        for case in chosen(options.cases):
            case = case.shortened(options.samples) if options.samples else case
            yield "loops", {case.name: loops.measured(case, folder, rounds=options.rounds, tell=tell)}


def tell(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
