"""What a person sees of a sweep: one line with what is done, failed and left; without a terminal, a line a job."""

import time
from collections.abc import Sequence

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.table import Column

from mbtrain.study.folder import result_of, state_of
from mbtrain.study.jobs import Job
from mbtrain.study.table import label, score_of
from mbtrain.study.tracking import SweepTrackers

REFRESH_SECONDS = 0.5


class SweepProgress:
    """Told by the pool of each job's begin and end, it tells the person and the trackers."""

    def __init__(self, jobs: Sequence[Job], varied: Sequence[str], trackers: SweepTrackers, console: Console) -> None:
        self._jobs, self._varied, self._trackers, self._console = jobs, varied, trackers, console
        self._num_done = self._num_failed = 0
        self._running: list[Job] = []
        self._started = time.monotonic()
        self._drawn_at = 0.0
        self._bar = Progress(
            TextColumn("sweep"),
            BarColumn(bar_width=20),
            MofNCompleteColumn(),
            TextColumn(
                "{task.fields[failed]}{task.fields[left]}{task.fields[running]}",
                markup=False,
                table_column=Column(ratio=1, no_wrap=True, overflow="ellipsis"),
            ),
            console=console,
            auto_refresh=False,
            transient=True,
            expand=True,
        )
        self._task = self._bar.add_task("", total=len(jobs), failed="", left="", running="")

    def __enter__(self) -> "SweepProgress":
        if self._console.is_terminal:
            self._bar.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._bar.stop()

    def begun(self, job: Job, pid: int) -> None:
        """A job's process has started."""
        self._running.append(job)
        self._trackers.begun(job, pid)
        self._drawn_at = 0.0

    def ended(self, job: Job) -> None:
        """A job's process is gone."""
        self._running.remove(job)
        state = state_of(job)
        self._num_done += 1
        self._num_failed += state in ("failed", "killed")
        if not self._console.is_terminal:
            score = "  ".join(score_of(result_of(job), part) for part in ("val", "test"))
            text = f"sweep  {self._num_done}/{len(self._jobs)}  {state:<7}  {label(job, self._varied)}  {score}"
            self._console.print(text.rstrip(), highlight=False, markup=False, soft_wrap=True)

    def tick(self) -> None:
        """Draw, not too often."""
        now = time.monotonic()
        if self._console.is_terminal and now - self._drawn_at >= REFRESH_SECONDS:
            self._drawn_at = now
            self._draw(now)

    def _draw(self, now: float) -> None:
        left = time_left(now - self._started, num_done=self._num_done, num_left=len(self._jobs) - self._num_done)
        self._bar.update(
            self._task,
            completed=self._num_done,
            failed=f"{self._num_failed} failed  " if self._num_failed else "",
            left="" if left is None else f"{_clock(left)} left  ",
            running=" | ".join(label(job, self._varied) for job in self._running),
        )
        self._bar.refresh()


def time_left(elapsed_s: float, *, num_done: int, num_left: int) -> float | None:
    """Seconds that the jobs left will take if they are like those done; not known before the first.

    >>> time_left(10.0, num_done=2, num_left=3)
    15.0
    """
    return elapsed_s / num_done * num_left if num_done else None


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}"
