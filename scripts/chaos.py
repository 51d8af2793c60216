"""Breaks runs on purpose and counts which come out the same: kills, damaged files, full disks, dead trackers.

    python scripts/chaos.py                  the whole campaign: 200 kills, 200 during a save, 1000 bit flips, …
    python scripts/chaos.py --quick          a few of each, under a minute
    python scripts/chaos.py --kills 50       that many, of the others the numbers above

A run survives where its final weights, its optimizer's state and its log (times apart) are those of the run that nobody
disturbed, bit for bit. The exit code is 1 where one did not; its folder is kept and named.
"""

import argparse
import shutil
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).parents[1]
FULL = {"kills": 200, "saves": 200, "flips": 1000, "truncations": 100, "disks": 10, "trackers": 10}
QUICK = {"kills": 10, "saves": 3, "flips": 50, "truncations": 10, "disks": 1, "trackers": 1}


def main(arguments: Sequence[str] | None = None) -> int:
    options = parsed(arguments)
    # What is tried is the checkout that this file lies in, whatever is installed.
    sys.path.insert(0, str(ROOT))
    import torch
    from faults import disks, files, kills, trackers

    torch.set_num_threads(1)
    folder = Path(tempfile.mkdtemp(prefix="mbtrain-chaos-", dir=options.folder))
    faults = {
        "SIGKILL, then the same command": (kills.survived, options.kills),
        "SIGKILL during a save, $TMPDIR elsewhere": (kills.saves_survived, options.saves),
        "bit flip in a checkpoint": (files.flips_detected, options.flips),
        "checkpoint cut short": (files.cuts_detected, options.truncations),
        "disk full, then room": (disks.survived, options.disks),
        "tracker killed, then run again": (trackers.survived, options.trackers),
    }
    table = {fault: count(tries, folder, tell=tell) for fault, (count, tries) in faults.items() if tries}
    print(page(table))
    has_survived = all(tries == good for tries, good in table.values())
    if has_survived:
        shutil.rmtree(folder)
    else:
        print(f"kept: {folder}")
    return int(not has_survived)


def parsed(arguments: Sequence[str] | None) -> argparse.Namespace:
    description, examples = (__doc__ or "").split("\n\n", 1)
    parser = argparse.ArgumentParser(
        description=description, epilog=examples, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="a few of each")
    parser.add_argument("--folder", type=Path, help="where the runs are made (default: the system's temporary folder)")
    for name, number in FULL.items():
        parser.add_argument(f"--{name}", type=int, help=f"default {number}, quick {QUICK[name]}")
    options = parser.parse_args(arguments)
    for name, number in (QUICK if options.quick else FULL).items():
        if getattr(options, name) is None:
            setattr(options, name, number)
    return options


def page(table: dict[str, tuple[int, int]]) -> str:
    """The table in Markdown."""
    lines = ["| fault | tries | survived |", "| --- | --- | --- |"]
    return "\n".join([*lines, *(f"| {fault} | {tries} | {good} |" for fault, (tries, good) in table.items())])


def tell(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
