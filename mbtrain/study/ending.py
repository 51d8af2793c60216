"""What a sweep says before its jobs and after them: what is skipped, the table, the report, the exit code."""

import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from mbtrain.study.folder import is_done, state_of
from mbtrain.study.jobs import Job
from mbtrain.study.pool import started
from mbtrain.study.table import show


def tell_of_skipped(jobs: Sequence[Job], console: Console) -> None:
    """Say what is not run again."""
    states = [state_of(job) for job in jobs]
    if num_done := states.count("done"):
        console.print(f"{num_done} of {len(jobs)} jobs are done already", highlight=False)
    if num_failed := states.count("failed"):
        console.print(f"{num_failed} failed before and are left: sweep.retry=failed runs them again", highlight=False)


def end(
    path: Path,
    jobs: Sequence[Job],
    varied: Sequence[str],
    console: Console,
    *,
    received: int | None,
    notes: Sequence[str],
) -> int:
    """Show the table and `notes`, write the report unless a signal was `received`; the exit code."""
    show(jobs, varied, console)
    for line in notes:
        console.print(line, highlight=False, markup=False, soft_wrap=True)
    if received is not None:
        console.print("interrupted: the same command goes on", highlight=False)
        return 128 + received
    _report(path)
    return int(any(not is_done(job) for job in jobs))


def _report(path: Path) -> None:
    """Write the report in a process of its own: it may fail, and changes nothing."""
    started(_written, path).join()


def _written(path: Path) -> None:
    from mbtrain.analysis.report import write_report

    try:
        print(f"report: {write_report([path])}", file=sys.stderr)
    except Exception as error:
        print(f"no report: {error}; again: mbtrain-report {path}", file=sys.stderr)
