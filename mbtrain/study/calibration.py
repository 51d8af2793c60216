"""How long an iteration of each arm takes here: timed one run at a time, arms interleaved, warm-up left out."""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from mbtrain.log.reader import read_rows
from mbtrain.study.design import Case, Design
from mbtrain.study.jobs import Job
from mbtrain.study.trials import Trials

NUM_ROUNDS = 5
WARM_UP = 0.2
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


def calibration_jobs(trials: Trials, design: Design) -> list[Job]:
    """Each case and arm a few times; arms alternate, so that a slow minute does not fall on one."""
    return [_job(trials, case, arm, design, number) for case in design.cases for number, arm in _rounds(design)]


def paces(trials: Trials, design: Design) -> dict[tuple[str, str], Pace]:
    """The pace of every case and arm, from the logs of their runs."""
    return {
        (case.name, arm): Pace(
            [_seconds(_job(trials, case, arm, design, number).folder) for number in range(NUM_ROUNDS)]
        )
        for case in design.cases
        for arm in design.arms
    }


def lengths(case: Case, design: Design, measured: Mapping[tuple[str, str], Pace]) -> dict[str, int]:
    """Iterations of each arm in the time that the reference arm takes for the case's length."""
    reference = -(-case.length // design.batch_size(design.reference))
    seconds = reference * measured[case.name, design.reference].seconds
    return {
        arm: reference if arm == design.reference else max(1, round(seconds / measured[case.name, arm].seconds))
        for arm in design.arms
    }


def _rounds(design: Design) -> list[tuple[int, str]]:
    arms = list(design.arms)
    return [(number, arm) for number in range(NUM_ROUNDS) for arm in (arms if number % 2 == 0 else arms[::-1])]


def _job(trials: Trials, case: Case, arm: str, design: Design, number: int) -> Job:
    iterations = -(-case.calibrate // design.batch_size(arm))
    return trials.job("calibrate", case, arm, lr=case.lr, seed=number, iterations=iterations, validate_every=None)


def _seconds(run_dir: Path) -> float:
    elapsed = [row["time/elapsed_s"] for row in read_rows(run_dir / "iterations.jsonl")]
    first = int(len(elapsed) * WARM_UP)
    return (elapsed[-1] - elapsed[first]) / (len(elapsed) - 1 - first)
