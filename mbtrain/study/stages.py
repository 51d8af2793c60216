"""The stages of a study: each a sweep's folder of its own, whose runs are forked from what is read once."""

from collections.abc import Mapping, Sequence
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from mbtrain.plan.refused import Refused
from mbtrain.study.folder import SweepFolder, is_done, refusal_of, result_of
from mbtrain.study.job_process import run_job
from mbtrain.study.jobs import Job
from mbtrain.study.pool import Stop, run_all, started
from mbtrain.study.progress import SweepProgress
from mbtrain.study.shared import Shared
from mbtrain.study.tracking import SweepTrackers

if TYPE_CHECKING:
    from mbtrain.data.prepare import Data


class Stopped(Exception):
    """A signal ended the study; the same command goes on."""


class Stages:
    """Runs what is left of a stage's jobs."""

    def __init__(self, path: Path, stop: Stop, console: Console) -> None:
        self._path, self._stop, self.console = path, stop, console
        self._shared: list[Shared] = []
        self._cores = 1
        # Of runs that are done: a round asks again for all that the rounds before have run.
        self._results: dict[Path, Mapping[str, Any]] = {}

    def share(self, jobs: Sequence[Job]) -> None:
        """Read the data of these jobs once, before the first is forked."""
        by_data = {repr(job.config["dataset"]): job for job in jobs}
        self._shared = [Shared(job) for job in by_data.values()]
        from mbtrain.training.place import num_cores

        self._cores = num_cores()

    def num_samples(self, job: Job) -> int:
        """The samples of a job's training set."""
        for one in self._shared:
            if (data := one.data_of(job)) is not None:
                return len(data.train)
        from mbtrain.assembly import read_data

        return len(read_data(job.config).train)

    def run(self, stage: str, jobs: Sequence[Job], *, one_at_a_time: bool = False) -> None:
        """Have the jobs done; Stopped where a signal came first."""
        folder = SweepFolder(self._path / stage)
        folder.path.mkdir(exist_ok=True)
        jobs = [job for job in jobs if not self.result_of(job)]
        folder.admit(jobs)
        folder.write(jobs, [])
        remaining = folder.remaining(jobs, retries_failed=False)
        if remaining:
            self.say(f"{stage}: {len(remaining)} runs")
        at_once = 1 if one_at_a_time else self._cores
        with SweepProgress(remaining, [], SweepTrackers(folder.path, []), self.console) as progress:
            run_all(remaining, self._process_of, at_once=at_once, stop=self._stop, watcher=progress)
        if self._stop.received is not None:
            self.say("interrupted: the same command goes on")
            raise Stopped
        for job in remaining:
            # Not for its learning rate or its seed: nothing that the study tries can help it.
            if refusal := refusal_of(job):
                raise Refused(f"{refusal} ({stage}/{job.name})")

    def result_of(self, job: Job) -> Mapping[str, Any]:
        """What a run that is done came to; empty for any other."""
        if job.folder not in self._results:
            if not is_done(job):
                return {}
            self._results[job.folder] = result_of(job)
        return self._results[job.folder]

    def say(self, line: str) -> None:
        """A line for the person."""
        self.console.print(line, highlight=False, markup=False, soft_wrap=True)

    def data_of(self, job: Job) -> "Data | None":
        """The job's data where they have been read; None where it has to read its own."""
        return next((found for one in self._shared if (found := one.data_of(job)) is not None), None)

    def _process_of(self, job: Job) -> BaseProcess:
        return started(run_job, job, 1, self.data_of(job))
