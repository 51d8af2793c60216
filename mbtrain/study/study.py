"""A study: calibrate, tune, run, analyse. The same command again goes on where it was; nothing is run twice."""

import shlex
from collections.abc import Iterator, Mapping
from pathlib import Path

import orjson
from hydra._internal.hydra import Hydra
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from rich.console import Console

from mbtrain.config.check import check
from mbtrain.config.compose import plain
from mbtrain.log.files import replace
from mbtrain.plan.refused import Refused
from mbtrain.study.calibration import Pace, paces, timed_jobs
from mbtrain.study.course import Course
from mbtrain.study.design import Case, Design, design_of
from mbtrain.study.folder import SweepFolder
from mbtrain.study.jobs import Job
from mbtrain.study.pool import stopping
from mbtrain.study.record import Record
from mbtrain.study.rounds import Rounds, Searches, bracket
from mbtrain.study.setting import Setting
from mbtrain.study.stages import Stages, Stopped
from mbtrain.study.trials import Trials


def study(hydra: Hydra, name: str, overrides: list[str]) -> int:
    """Ask the question of `study=NAME`; the exit code: 0 answered, 128 + signal."""
    design, trials, path = designed(hydra, name, overrides)
    with SweepFolder(path).held(key="study_dir"), stopping() as stop:
        try:
            stages = Stages(path, stop, Console(stderr=True))
            answer(design, trials, stages, path, shlex.join(["mbtrain", *overrides]))
        except Stopped:
            return 128 + (stop.received or 0)
    return 0


def designed(hydra: Hydra, name: str, overrides: list[str]) -> tuple[Design, Trials, Path]:
    """The design that the command line names, its trials, all composed and checked, and its folder. Raises Refused."""
    whole = hydra.compose_config(name, [*overrides, "hydra.mode=RUN"], RunMode.RUN)
    HydraConfig.instance().set_config(whole)
    values = plain(whole)
    design = design_of(values.pop("study"))
    path = Path(values["study_dir"] or Path("studies", f"{design.name}-{design.scale}"))
    check(values)
    given = [one for one in overrides if not one.lstrip("+~").startswith(("study=", "study.", "study_dir="))]
    return design, Trials(hydra, whole, design, given, path), path


def answer(design: Design, trials: Trials, stages: Stages, path: Path, command: str) -> Record:
    """Do what is left to do, and write what it shows: `study.json`, and from it the page."""
    _refuse_another(design, path)
    stages.say(design.question)
    courses = _courses(design, trials, stages)
    rounds = Rounds(design, trials, stages, courses)
    searches = rounds.searches(one for course in courses.values() for one in course.main().values())
    runs = dict(_runs(courses, rounds, searches))
    stages.run("run", [job for seed in design.seeds for job in _of_seed(runs, seed)])
    record = Record(design, courses, searches, runs, command)
    replace(path / "study.json", orjson.dumps(record.content(), option=orjson.OPT_INDENT_2))
    _report(path, stages)
    return record


def _refuse_another(design: Design, path: Path) -> None:
    """Two designs do not share a folder: their runs would be mixed."""
    file, ours = path / "design.json", orjson.dumps(design, option=orjson.OPT_INDENT_2)
    if file.is_file() and file.read_bytes() != ours:
        raise Refused(f"study_dir={path}: holds another design of study={design.name}: choose another")
    replace(file, ours)


def _courses(design: Design, trials: Trials, stages: Stages) -> dict[str, Course]:
    """What each case is, timed where the design asks for it."""
    first = {
        case: trials.job("tune", Setting(case, design.arms_of(case)[0], "1it"), lr=0.0, seed=0) for case in design.cases
    }
    stages.share(list(first.values()))
    courses = {
        case.name: Course(case, design, _sizes(design, trials, stages, case, job), {}, trials.schedule(case))
        for case, job in first.items()
    }
    if not design.is_timed:
        return courses
    timed = {
        name: timed_jobs(trials, one.case, one.sizes, {arm: one.middle(arm) for arm in one.sizes})
        for name, one in courses.items()
    }
    stages.run("calibrate", [job for jobs in timed.values() for job in jobs], one_at_a_time=True)
    measured = {name: paces(jobs, courses[name].sizes) for name, jobs in timed.items()}
    for name, own in measured.items():
        _say_pace(name, own, stages)
    return {name: Course(one.case, design, one.sizes, measured[name], one.schedule) for name, one in courses.items()}


def _sizes(design: Design, trials: Trials, stages: Stages, case: Case, job: Job) -> dict[str, int]:
    """Samples of each arm's mini-batch."""
    given = {arm: trials.batch_size(case, arm) for arm in design.arms_of(case)}
    return {arm: stages.num_samples(job) if isinstance(size, str) else size for arm, size in given.items()}


def _runs(courses: Mapping[str, Course], rounds: Rounds, searches: Searches) -> Iterator[tuple[Setting, list[Job]]]:
    """The settings that answer, each with a run per fresh seed."""
    design = rounds.design
    for course in courses.values():
        answering = list(course.main().values())
        if design.target is not None and not course.is_constant:
            answering = [
                one
                for arm in course.sizes
                for one in bracket([s for s in searches if s.key == (course.case.name, arm)], searches, design.target)
            ]
        answering += [one for own in course.further().values() for one in own.values()]
        for setting in answering:
            lr = rate(setting, course, searches)
            yield setting, [rounds.job("run", setting, lr=lr, seed=seed) for seed in design.seeds]


def rate(setting: Setting, course: Course, searches: Searches) -> float:
    """The learning rate of a setting: its own, that of the same arm at the study's budget, or that of the named arm."""
    arm = course.design.rate_of.get(setting.arm, setting.arm)
    search = searches[setting] if setting in searches else searches[course.main()[arm]]
    if search.best_rate is None:
        raise Refused(
            f"study: no run of {setting.case.name}, {arm} came to its end at any learning rate: lower its lr; "
            "tune/*/status.json says why of each"
        )
    return search.best_rate


def _of_seed(runs: Mapping[Setting, list[Job]], seed: int) -> list[Job]:
    """The runs of a seed; arms alternate in time."""
    own = [jobs[seed] for jobs in runs.values()]
    return own[:: 1 if seed % 2 == 0 else -1]


def _report(path: Path, stages: Stages) -> None:
    from mbtrain.analysis.study import write_study

    page, lines = write_study(path)
    for line in lines:
        stages.say(line)
    stages.say(f"report: {page}")


def _say_pace(case: str, measured: Mapping[str, Pace], stages: Stages) -> None:
    for arm, pace in measured.items():
        steady = "" if pace.is_steady else "  NOT STEADY: something else kept the machine busy, times are doubtful"
        stages.say(f"  {case}, {arm}: {pace.seconds * 1e3:.2f} ms an iteration{steady}")
