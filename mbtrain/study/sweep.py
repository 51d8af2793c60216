"""A sweep: every combination is a job; the same command again goes on with what is not done.

What is done is skipped, what was cut goes on from its checkpoint, failures are left unless `sweep.retry=failed`, and a
wider sweep in the same folder adds what is new.
"""

from collections.abc import Callable, Sequence

from hydra._internal.hydra import Hydra
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from rich.console import Console

from mbtrain.plan.refused import Refused
from mbtrain.study.ending import end, tell_of_skipped
from mbtrain.study.folder import SweepFolder
from mbtrain.study.job_process import run_job
from mbtrain.study.jobs import Job, checked_jobs, composed_jobs
from mbtrain.study.multirun import multirun
from mbtrain.study.pool import run_all, started, stopping
from mbtrain.study.progress import SweepProgress
from mbtrain.study.shared import Shared
from mbtrain.study.slurm import LAUNCHER
from mbtrain.study.slurm_sweep import run_on_slurm
from mbtrain.study.tracking import SweepTrackers
from mbtrain.trackers import missing


def sweep(hydra: Hydra, name: str, overrides: list[str], job: Callable[[DictConfig], int]) -> int:
    """Run each combination of `overrides`; the exit code: 0 all done, 1 some failed, 128 + signal. Raises Refused.

    `job` runs one composed config where Hydra launches the jobs (a launcher or sweeper of another's was chosen).
    """
    given = list(overrides)
    overrides = [*overrides, "hydra.mode=MULTIRUN"]
    whole = hydra.compose_config(name, overrides, RunMode.MULTIRUN)
    choices = whole.hydra.runtime.choices
    if choices["hydra/launcher"] not in ("basic", LAUNCHER) or choices["hydra/sweeper"] != "basic":
        return multirun(hydra, name, overrides, whole, job)
    jobs = checked_jobs(composed_jobs(hydra, whole))
    for line in filter(None, (missing(name) for one in jobs for name in one.config["tracker"])):
        raise Refused(line)
    if choices["hydra/launcher"] == LAUNCHER:
        options = OmegaConf.to_container(whole.hydra.launcher, resolve=True)
        assert isinstance(options, dict)
        return run_on_slurm(jobs, given, {str(key): value for key, value in options.items()})
    return run_sweep(jobs, given)


def run_sweep(jobs: Sequence[Job], overrides: Sequence[str]) -> int:
    """Run checked jobs of one folder in processes of this machine; the exit code."""
    folder, console = SweepFolder(jobs[0].folder.parent), Console(stderr=True)
    options = jobs[0].config["sweep"]
    folder.admit(jobs)
    with folder.held():
        varied = folder.write(jobs, overrides)
        remaining = folder.remaining(jobs, retries_failed=options["retry"] == "failed")
        tell_of_skipped(jobs, console)
        trackers = SweepTrackers(folder.path, jobs)
        trackers.start()
        received = _run_all(remaining, varied, trackers, console, at_once=options["jobs"]) if remaining else None
        return end(folder.path, jobs, varied, console, received=received, notes=trackers.finish())


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
