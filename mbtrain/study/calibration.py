"""How long an iteration of each arm takes here: timed one run at a time, arms interleaved, warm-up left out."""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from mbtrain.log.reader import read_rows
from mbtrain.log.status import read_status
from mbtrain.plan.refused import Refused
from mbtrain.study.design import Case
from mbtrain.study.folder import is_done
from mbtrain.study.jobs import Job
from mbtrain.study.setting import Setting
from mbtrain.study.trials import Trials

NUM_ROUNDS = 5
FEWEST_ROUNDS = 3
WARM_UP = 0.2
# A run that is only timed has at least so many iterations.
FEWEST = 10
# Rounds of one arm that differ by more than this factor show that something else kept the machine busy.
STEADY = 1.25


@dataclass(frozen=True)
class Pace:
    """Seconds per iteration in each round of one case and arm."""

    rounds: Sequence[float]

    @property
    def seconds(self) -> float:
        """The median."""
        return statistics.median(self.rounds)

    @property
    def is_steady(self) -> bool:
        """Whether the rounds agree, the slowest left out."""
        kept = sorted(self.rounds)[:-1] or self.rounds
        return kept[-1] / kept[0] <= STEADY


def timed_jobs(trials: Trials, case: Case, sizes: Mapping[str, int], rates: Mapping[str, float]) -> list[Job]:
    """Each arm a few times; arms alternate, so that a slow minute does not fall on one. `sizes`: mini-batches."""
    return [
        _job(trials, case, arm, sizes[arm], rates[arm], number)
        for number in range(NUM_ROUNDS)
        for arm in list(sizes)[:: 1 if number % 2 == 0 else -1]
    ]


def paces(jobs: Sequence[Job], sizes: Mapping[str, int]) -> dict[str, Pace]:
    """The pace of every arm, from the logs of the jobs in that order."""
    rounds: dict[str, list[float]] = {arm: [] for arm in sizes}
    failed: dict[str, list[Job]] = {arm: [] for arm in sizes}
    for number in range(NUM_ROUNDS):
        part = jobs[number * len(sizes) : (number + 1) * len(sizes)]
        for arm, job in zip(list(sizes)[:: 1 if number % 2 == 0 else -1], part, strict=True):
            if is_done(job):
                rounds[arm].append(_seconds(job.folder))
            else:
                failed[arm].append(job)
    for arm, own in rounds.items():
        if len(own) < FEWEST_ROUNDS:
            raise _untimed(arm, failed[arm])
    return {arm: Pace(own) for arm, own in rounds.items()}


def _untimed(arm: str, jobs: Sequence[Job]) -> Refused:
    said = (read_status(jobs[0].folder) or {}).get("message") or "nothing was said"
    return Refused(
        f"study: {arm} cannot be timed, {len(jobs)} of its runs were not done ({said}): see {jobs[0].folder}"
    )


def _job(trials: Trials, case: Case, arm: str, size: int, lr: float, number: int) -> Job:
    iterations = max(FEWEST, -(-case.calibrate // size))
    return trials.job("calibrate", Setting(case, arm, f"{iterations}it"), lr=lr, seed=number)


def _seconds(run_dir: Path) -> float:
    elapsed = [row["time/elapsed_s"] for row in read_rows(run_dir / "iterations.jsonl")]
    first = int(len(elapsed) * WARM_UP)
    return (elapsed[-1] - elapsed[first]) / (len(elapsed) - 1 - first)
