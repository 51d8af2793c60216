"""A sweep: every combination is a job; the same command again goes on with what is not done.

What is done is skipped, what was cut goes on from its checkpoint, failures are left unless `sweep.retry=failed`, and a
wider sweep in the same folder adds what is new.
"""

import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import orjson
from hydra._internal.hydra import Hydra
from hydra.types import RunMode
from omegaconf import DictConfig
from rich.console import Console

from mbtrain.plan.refused import Refused
from mbtrain.study.folder import FILE, SweepFolder, is_done, state_of
from mbtrain.study.job_process import run_job
from mbtrain.study.jobs import Job, checked_jobs, composed_jobs
from mbtrain.study.multirun import multirun
from mbtrain.study.pool import run_all, started, stopping
from mbtrain.study.progress import SweepProgress
from mbtrain.study.shared import Shared
from mbtrain.study.table import show
from mbtrain.study.tracking import SweepTrackers
from mbtrain.trackers import missing


def sweep(hydra: Hydra, name: str, overrides: list[str], job: Callable[[DictConfig], int]) -> int:
    """Run each combination of `overrides`; the exit code: 0 all done, 1 some failed, 128 + signal. Raises Refused.

    `job` runs one composed config where Hydra launches the jobs (another launcher or sweeper than basic was chosen).
    """
    given = list(overrides)
    overrides = [*overrides, "hydra.mode=MULTIRUN"]
    whole = hydra.compose_config(name, overrides, RunMode.MULTIRUN)
    choices = whole.hydra.runtime.choices
    if choices["hydra/launcher"] != "basic" or choices["hydra/sweeper"] != "basic":
        return multirun(hydra, name, overrides, whole, job)
    return run_sweep(checked_jobs(composed_jobs(hydra, whole)), given)


def run_sweep(jobs: Sequence[Job], overrides: Sequence[str]) -> int:
    """Run checked jobs of one folder; the exit code."""
    folder = SweepFolder(jobs[0].folder.parent)
    options = jobs[0].config["sweep"]
    for line in filter(None, (missing(name) for job in jobs for name in job.config["tracker"])):
        raise Refused(line)
    folder.admit(jobs)
    with folder.held():
        folder.write(jobs, overrides)
        remaining = folder.remaining(jobs, retries_failed=options["retry"] == "failed")
        return _run(folder, jobs, remaining, at_once=options["jobs"])


def _run(folder: SweepFolder, jobs: Sequence[Job], remaining: Sequence[Job], *, at_once: int) -> int:
    console = Console(stderr=True)
    varied = orjson.loads((folder.path / FILE).read_bytes())["factors"]
    _tell_of_skipped(jobs, console)
    trackers = SweepTrackers(folder.path, jobs)
    trackers.start()
    received = _run_all(remaining, varied, trackers, console, at_once=at_once) if remaining else None
    lines = trackers.finish()
    show(jobs, varied, console)
    for line in lines:
        console.print(line, highlight=False, markup=False, soft_wrap=True)
    if received is not None:
        console.print("interrupted: the same command goes on", highlight=False)
        return 128 + received
    _report(folder.path)
    return int(any(not is_done(job) for job in jobs))


def _run_all(
    jobs: Sequence[Job], varied: Sequence[str], trackers: SweepTrackers, console: Console, *, at_once: int
) -> int | None:
    """Run the jobs; the signal that ended it before they were done."""
    shared = Shared(jobs[0])
    from mbtrain.training.place import num_cores

    cores = max(1, num_cores() // at_once)
    with stopping() as stop, SweepProgress(jobs, varied, trackers, console) as progress:
        run_all(
            jobs,
            lambda job: started(run_job, job, cores, shared.data_of(job)),
            at_once=at_once,
            stop=stop,
            watcher=progress,
        )
    return stop.received


def _tell_of_skipped(jobs: Sequence[Job], console: Console) -> None:
    states = [state_of(job) for job in jobs]
    if num_done := states.count("done"):
        console.print(f"{num_done} of {len(jobs)} jobs are done already", highlight=False)
    if num_failed := states.count("failed"):
        console.print(f"{num_failed} failed before and are left: sweep.retry=failed runs them again", highlight=False)


def _report(path: Path) -> None:
    """Write the report in a process of its own: it may fail, and changes nothing."""
    started(_written, path).join()


def _written(path: Path) -> None:
    from mbtrain.analysis.report import write_report

    try:
        print(f"report: {write_report([path])}", file=sys.stderr)
    except Exception as error:
        print(f"no report: {error}; again: mbtrain-report {path}", file=sys.stderr)
