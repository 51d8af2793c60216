"""A study: calibrate, tune, run, analyse. The same command again goes on where it was; nothing is run twice."""

import os
import shlex
from collections.abc import Iterator, Mapping, Sequence
from importlib.metadata import version
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import orjson
from hydra._internal.hydra import Hydra
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from rich.console import Console

from mbtrain.config.check import check
from mbtrain.config.compose import plain
from mbtrain.log.files import replace
from mbtrain.plan.refused import Refused
from mbtrain.study.calibration import Pace, calibration_jobs, lengths, paces
from mbtrain.study.design import Case, Design, design_of
from mbtrain.study.folder import SweepFolder, is_done, result_of
from mbtrain.study.job_process import run_job
from mbtrain.study.jobs import Job
from mbtrain.study.pool import Stop, run_all, started, stopping
from mbtrain.study.progress import SweepProgress
from mbtrain.study.shared import Shared
from mbtrain.study.tracking import SweepTrackers
from mbtrain.study.trials import Trials
from mbtrain.study.tuning import Search, loss_of

FILE = "study.json"
PACKAGES = ("mbtrain", "torch", "pytorch-lightning", "numpy", "scipy")


class Stopped(Exception):
    """A signal ended the study; the same command goes on."""


def study(hydra: Hydra, name: str, overrides: list[str]) -> int:
    """Ask the question of `study=NAME`; the exit code: 0 answered, 1 some run failed for good, 128 + signal."""
    whole = hydra.compose_config(name, [*overrides, "hydra.mode=RUN"], RunMode.RUN)
    HydraConfig.instance().set_config(whole)
    values = plain(whole)
    design = design_of(values.pop("study"))
    path = Path(values["study_dir"] or Path("studies", f"{design.name}-{design.scale}"))
    check(values)
    given = [one for one in overrides if not one.lstrip("+~").startswith(("study=", "study.", "study_dir="))]
    trials = Trials(hydra, whole, design, given, path)
    with SweepFolder(path).held(key="study_dir"), stopping() as stop:
        try:
            _Study(design, trials, path, stop, Console(stderr=True)).answer(shlex.join(["mbtrain", *overrides]))
        except Stopped:
            return 128 + (stop.received or 0)
    return 0


class _Study:
    """The stages, each a sweep's folder of its own."""

    def __init__(self, design: Design, trials: Trials, path: Path, stop: Stop, console: Console) -> None:
        self._design, self._trials, self._path, self._stop, self._console = design, trials, path, stop, console
        self._shared: list[Shared] = []
        self._cores = 1

    def answer(self, command: str) -> None:
        """Do what is left to do, and write what it shows."""
        self._refuse_another()
        self._say(self._design.question)
        timed = calibration_jobs(self._trials, self._design)
        self._share(timed)
        self._stage("calibrate", timed, at_once=1)
        measured = paces(self._trials, self._design)
        plans = {case.name: _Plan(case, self._design, measured) for case in self._design.cases}
        self._say_pace(measured)
        searches = self._tuned(plans)
        jobs = list(self._final_jobs(plans, searches))
        self._stage("run", jobs, at_once=self._cores)
        self._write(plans, searches, measured, jobs, command)
        self._report()

    def _refuse_another(self) -> None:
        """Two designs do not share a folder: their runs would be mixed."""
        file, ours = self._path / "design.json", orjson.dumps(self._design, option=orjson.OPT_INDENT_2)
        if file.is_file() and file.read_bytes() != ours:
            raise Refused(f"study_dir={self._path}: holds another design of study={self._design.name}: choose another")
        replace(file, ours)

    def _stage(self, stage: str, jobs: Sequence[Job], *, at_once: int) -> None:
        folder = SweepFolder(self._path / stage)
        folder.path.mkdir(exist_ok=True)
        folder.admit(jobs)
        folder.write(jobs, [])
        remaining = folder.remaining(jobs, retries_failed=False)
        if remaining:
            self._say(f"{stage}: {len(remaining)} runs")
        trackers = SweepTrackers(folder.path, [])
        with SweepProgress(remaining, [], trackers, self._console) as progress:
            run_all(remaining, self._process_of, at_once=at_once, stop=self._stop, watcher=progress)
        if self._stop.received is not None:
            self._say("interrupted: the same command goes on")
            raise Stopped

    def _share(self, jobs: Sequence[Job]) -> None:
        """Read each case's data once, before the first job is forked."""
        by_data = {repr(job.config["dataset"]): job for job in jobs}
        self._shared = [Shared(job) for job in by_data.values()]
        from mbtrain.training.place import num_cores

        self._cores = num_cores()

    def _process_of(self, job: Job) -> BaseProcess:
        data = next((found for one in self._shared if (found := one.data_of(job)) is not None), None)
        return started(run_job, job, 1, data)

    def _tuned(self, plans: Mapping[str, "_Plan"]) -> dict[tuple[str, str], Search]:
        """The learning rates, a round at a time: what some arm's grid lacks is run for all that lack it."""
        searches = {
            key: Search(self._design.grid)
            for key in ((c.name, a) for c in self._design.cases for a in self._design.arms)
        }
        is_open = True
        while is_open:
            jobs = [
                job
                for (case, arm), search in searches.items()
                for step in search.steps
                for job in self._tuning_jobs(plans[case], arm, step)
            ]
            self._stage("tune", jobs, at_once=self._cores)
            for (case, arm), search in searches.items():
                for step in search.steps:
                    runs = self._tuning_jobs(plans[case], arm, step)
                    search.note(step, [loss_of(result_of(job)) if is_done(job) else None for job in runs])
            is_open = any([search.widen() for search in searches.values()])
        return searches

    def _tuning_jobs(self, plan: "_Plan", arm: str, step: int) -> list[Job]:
        lr = self._design.grid.rate(plan.case, step)
        return [plan.job(self._trials, "tune", arm, lr=lr, seed=seed) for seed in self._design.tuning_seeds]

    def _final_jobs(self, plans: Mapping[str, "_Plan"], searches: Mapping[tuple[str, str], Search]) -> Iterator[Job]:
        """Fresh seeds; arms alternate in time."""
        for plan in plans.values():
            for seed in self._design.seeds:
                for arm in list(self._design.arms)[:: 1 if seed % 2 == 0 else -1]:
                    best = searches[plan.case.name, arm].best
                    if best is None:
                        raise Refused(f"study: every learning rate of {plan.case.name}, {arm} diverged: lower its lr")
                    yield plan.job(self._trials, "run", arm, lr=self._design.grid.rate(plan.case, best), seed=seed)

    def _write(
        self,
        plans: Mapping[str, "_Plan"],
        searches: Mapping[tuple[str, str], Search],
        measured: Mapping[tuple[str, str], Pace],
        jobs: Sequence[Job],
        command: str,
    ) -> None:
        """study.json: what the analysis reads, and what whoever doubts it needs."""
        from mbtrain.outcome import git_state

        design = self._design
        content = {
            "question": design.question,
            "name": design.name,
            "scale": design.scale,
            "command": command,
            "git": git_state(),
            "versions": {name: version(name) for name in PACKAGES},
            "cores": os.cpu_count(),
            "margin": design.margin,
            "primary": design.primary,
            "batch_sizes": {arm: design.batch_size(arm) for arm in design.arms},
            "cases": {
                name: plan.told(design, searches, measured) | {"runs": _folders(jobs, plan, design)}
                for name, plan in plans.items()
            },
        }
        replace(self._path / FILE, orjson.dumps(content, option=orjson.OPT_INDENT_2))

    def _report(self) -> None:
        from mbtrain.analysis.study import write_study

        page, lines = write_study(self._path)
        for line in lines:
            self._say(line)
        self._say(f"report: {page}")

    def _say_pace(self, measured: Mapping[tuple[str, str], Pace]) -> None:
        for (case, arm), pace in measured.items():
            steady = "" if pace.is_steady else "  NOT STEADY: something else kept the machine busy, times are doubtful"
            self._say(f"  {case}, {arm}: {pace.seconds * 1e3:.2f} ms an iteration{steady}")

    def _say(self, line: str) -> None:
        self._console.print(line, highlight=False, markup=False, soft_wrap=True)


class _Plan:
    """How long each arm of a case runs, and when it is validated."""

    def __init__(self, case: Case, design: Design, measured: Mapping[tuple[str, str], Pace]) -> None:
        self.case, self.lengths = case, lengths(case, design, measured)
        # Often enough that the fewest updates of any arm lie between two validations of every arm.
        smallest = min(design.batch_size(arm) for arm in design.arms)
        self.validate_every = max(1, min(self.lengths.values()) * smallest // 2)

    def job(self, trials: Trials, stage: str, arm: str, *, lr: float, seed: int) -> Job:
        """A run of this length; only those that answer are validated on the way."""
        every = self.validate_every if stage == "run" else None
        return trials.job(stage, self.case, arm, lr=lr, seed=seed, iterations=self.lengths[arm], validate_every=every)

    def told(
        self,
        design: Design,
        searches: Mapping[tuple[str, str], Search],
        measured: Mapping[tuple[str, str], Pace],
    ) -> dict[str, Any]:
        """What study.json says of it."""
        arms = {arm: searches[self.case.name, arm] for arm in design.arms}
        return {
            "overrides": self.case.overrides,
            "iterations": self.lengths,
            "seconds_per_iteration": {arm: measured[self.case.name, arm].rounds for arm in arms},
            "is_steady": all(measured[self.case.name, arm].is_steady for arm in arms),
            "rates": {arm: design.grid.rate(self.case, one.best or 0) for arm, one in arms.items()},
            "is_inside": {arm: one.is_inside for arm, one in arms.items()},
            "tuning": {
                arm: [[design.grid.rate(self.case, step), loss] for step, loss in sorted(one.losses.items())]
                for arm, one in arms.items()
            },
        }


def _folders(jobs: Sequence[Job], plan: _Plan, design: Design) -> dict[str, list[str]]:
    return {
        arm: [f"run/{job.name}" for job in jobs if job.name.startswith(f"{plan.case.name}_{arm}_")]
        for arm in design.arms
    }
