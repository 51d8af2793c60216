"""A sweep in SLURM's queue: the same jobs, folders and table; who waits may leave and come back."""

import time
from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console

from mbtrain.log.status import read_status, write_status
from mbtrain.plan.refused import Refused
from mbtrain.study.ending import end, tell_of_skipped
from mbtrain.study.folder import SweepFolder, state_of
from mbtrain.study.jobs import Job
from mbtrain.study.pool import Stop, Watcher, stopping
from mbtrain.study.progress import SweepProgress
from mbtrain.study.slurm import LAUNCHER, Queue, Task, end_of
from mbtrain.study.tracking import SweepTrackers

TICK_SECONDS = 1.0
# As often as an administrator of a cluster does not mind.
LOOK_SECONDS = 10.0


def run_on_slurm(jobs: Sequence[Job], overrides: Sequence[str], options: Mapping[str, Any]) -> int:
    """Submit what is neither done nor in the queue already, wait for all; the exit code. Raises Refused."""
    folder, console = SweepFolder(jobs[0].folder.parent), Console(stderr=True)
    queue = Queue(folder.path, options)
    queue.refuse_unfit()
    with folder.held():
        found = queue.look()
        if found is None:
            raise Refused(f"hydra/launcher={LAUNCHER}: squeue does not answer: try again later")
        queued = {job.name: found[job.name] for job in jobs if job.name in found}
        others = [job for job in jobs if job.name not in queued]
        folder.admit(others)
        varied = folder.write(jobs, overrides)
        remaining = folder.remaining(others, retries_failed=jobs[0].config["sweep"]["retry"] == "failed")
        tell_of_skipped(jobs, console)
        tasks = queued | queue.submit(remaining)
        waited_for = [job for job in jobs if job.name in tasks]
        if waited_for:
            _say(console, f"{len(remaining)} jobs submitted to SLURM, {len(queued)} are there already: {arrays(tasks)}")
        # Each task has its own trackers, on its own node.
        watcher = SweepProgress(waited_for, varied, SweepTrackers(folder.path, []), console)
        with stopping() as stop, watcher:
            left = Waiting(waited_for, tasks, queue, watcher, stop).wait()
        return end(folder.path, jobs, varied, console, received=stop.received, notes=_notes(left))


class Waiting:
    """Waits for jobs in a queue: their folders say how they go, the queue only whether they still can."""

    def __init__(
        self, jobs: Sequence[Job], tasks: Mapping[str, Task], queue: Queue, watcher: Watcher, stop: Stop
    ) -> None:
        self._left, self._tasks = {job.name: job for job in jobs}, dict(tasks)
        self._queue, self._watcher, self._stop = queue, watcher, stop
        self._begun: set[str] = set()
        self._missed: set[str] = set()
        self._looked_at = time.monotonic()

    def wait(self) -> dict[str, Task]:
        """Until each job has come to its end, or a signal; what is in the queue still."""
        while self._left and self._stop.received is None:
            gone = self._gone()
            for job in list(self._left.values()):
                self._follow(job, is_gone=job.name in gone)
            self._watcher.tick()
            if self._left:
                time.sleep(TICK_SECONDS)
        found = self._queue.look() or {} if self._left else {}
        return {name: task for name, task in found.items() if name in self._left}

    def _follow(self, job: Job, *, is_gone: bool) -> None:
        state = state_of(job)
        if state != "waiting" and job.name not in self._begun:
            self._begun.add(job.name)
            self._watcher.begun(job, (read_status(job.folder) or {})["pid"])
        if is_gone:
            settle(job, self._tasks[job.name])
        if is_gone or state in ("done", "failed"):
            del self._left[job.name]
            self._watcher.ended(job)

    def _gone(self) -> set[str]:
        """The jobs that the queue lacked twice: by then a shared disk shows what they wrote last."""
        if time.monotonic() - self._looked_at < LOOK_SECONDS:
            return set()
        self._looked_at = time.monotonic()
        found = self._queue.look()
        if found is None:
            return set()
        self._tasks |= found
        before, self._missed = self._missed, self._left.keys() - found.keys()
        return before & self._missed


def settle(job: Job, task: Task) -> None:
    """Have the status of a job that SLURM has ended say so, unless it has said its own end."""
    status = read_status(job.folder)
    if status is not None and status["status"] in ("waiting", "running"):
        write_status(job.folder, "killed", end_of(task), pid=status["pid"])


def arrays(tasks: Mapping[str, Task]) -> str:
    """The numbers of the arrays that tasks belong to.

    >>> arrays({"seed=0": Task("12_0", "PENDING"), "seed=1": Task("12_1", "RUNNING")})
    'array 12'
    """
    return "array " + " ".join(dict.fromkeys(task.number.partition("_")[0] for task in tasks.values()))


def _notes(left: Mapping[str, Task]) -> list[str]:
    return [f"{len(left)} jobs stay in SLURM's queue ({arrays(left)}; scancel ends them)"] if left else []


def _say(console: Console, line: str) -> None:
    console.print(line, highlight=False, markup=False, soft_wrap=True)
