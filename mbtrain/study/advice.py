"""`study=advise`: what batch size, and in how many pieces, on this machine; measured, weighed, written.

The noise scale of a short run, whole updates of every way to make one, and what follows from the two. The same command
again measures nothing twice.
"""

import math
import os
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any

import orjson
from hydra._internal.hydra import Hydra
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig
from rich.console import Console

from mbtrain.config.check import check
from mbtrain.config.compose import plain
from mbtrain.log.files import replace
from mbtrain.log.provenance import git_state, versions
from mbtrain.plan.duration import Duration
from mbtrain.plan.refused import Refused
from mbtrain.study import advice_calibration, advice_timing
from mbtrain.study.advice_calibration import MOST, Search, parsed
from mbtrain.study.advice_noise import MEASURED, MeasuredNoise, measured_run, noise_of
from mbtrain.study.composition import Compositions
from mbtrain.study.folder import SweepFolder, is_done
from mbtrain.study.jobs import Job
from mbtrain.study.pool import Stop, started, stopping
from mbtrain.study.record import PACKAGES
from mbtrain.study.stages import Stages, Stopped
from mbtrain.study.trials import Trials

NAME = "advise"
FILE = "measured.json"
# Overrides of the user that say nothing of how an update is made, and would stand in the way of what is measured.
OWN = ("probe", "tracker", "duration", "resume", "run_dir")


@dataclass(frozen=True)
class Options:
    """The keys of conf/study/advise.yaml."""

    question: str
    sizes: Sequence[int] | None
    seconds: float
    trajectory: str
    run: str | None
    calibrate: bool
    target: str | None
    calibrated_sizes: Sequence[int] | None
    search: Search


class _Failed(Exception):
    """A part ended with this exit code, having said why."""

    def __init__(self, code: int) -> None:
        self.code = code


def advise(hydra: Hydra, name: str, overrides: Sequence[str]) -> int:
    """Answer; the exit code: 0 answered, 1 or 2 what failed or was refused has been said, 128 + signal."""
    whole = hydra.compose_config(name, [*overrides, "hydra.mode=RUN"], RunMode.RUN)
    HydraConfig.instance().set_config(whole)
    values = plain(whole)
    options = options_of(values.pop("study"))
    refuse_unfit(values)
    check(values)
    if options.run is not None:
        noise_of(Path(options.run), key="study.from")
    path = Path(values["study_dir"] or Path("studies", NAME))
    with SweepFolder(path).held(key="study_dir"), stopping() as stop:
        console = Console(stderr=True)
        try:
            _Advice(hydra, whole, values, options, list(overrides), path, stop, console).answer()
        except Stopped:
            return 128 + (stop.received or 0)
        except _Failed as error:
            return error.code
    return 0


def options_of(node: Mapping[str, Any]) -> Options:
    """The options; Refused where one makes no sense."""
    for name, most in (("sizes", math.inf), ("calibrated_sizes", MOST)):
        sizes = node[name]
        if sizes is not None and not (
            isinstance(sizes, list)
            and 1 < len(set(sizes)) <= most
            and all(type(one) is int and one > 0 for one in sizes)
        ):
            up_to = f"two to {MOST}" if most == MOST else "two or more"
            raise Refused(f"study.{name}={sizes}: must be {up_to} batch sizes of at least 1, such as [32,64,128]")
    for name, least in (("seconds", 0), ("num_tuning_seeds", 0), ("num_seeds", 1)):
        if isinstance(node[name], bool) or not isinstance(node[name], int | float) or node[name] <= least:
            raise Refused(f"study.{name}={node[name]}: must be a number above {least}")
    if not isinstance(node["calibrate"], bool):
        raise Refused(f"study.calibrate={node['calibrate']}: must be true or false")
    try:
        Duration.parse(node["trajectory"])
    except Refused as error:
        raise Refused(f"study.trajectory={error}") from None
    if node["target"] is not None:
        parsed(node["target"])
    return Options(
        question=node["question"],
        sizes=node["sizes"],
        seconds=node["seconds"],
        trajectory=node["trajectory"],
        run=node["from"],
        calibrate=node["calibrate"],
        target=node["target"],
        calibrated_sizes=node["calibrated_sizes"],
        search=Search(int(node["num_tuning_seeds"]), int(node["num_seeds"])),
    )


def refuse_unfit(values: Mapping[str, Any]) -> None:
    """What has no one batch size cannot be advised on."""
    schedule = values["batch_schedule"]["_target_"]
    if not schedule.endswith(".Constant"):
        raise Refused(f"batch_schedule._target_={schedule}: advice is on one size: leave batch_schedule out")
    if values["batch"]["max_tokens"] is not None:
        raise Refused(
            f"batch.max_tokens={values['batch']['max_tokens']}: advice is on a number of samples: give batch.size"
        )


class _Advice:
    """The parts in order, each kept in the study's folder."""

    def __init__(
        self,
        hydra: Hydra,
        whole: DictConfig,
        values: dict[str, Any],
        options: Options,
        overrides: list[str],
        path: Path,
        stop: Stop,
        console: Console,
    ) -> None:
        self._values, self._options, self._overrides, self._path = values, options, overrides, path
        self._stop, self._stages = stop, Stages(path, stop, console)
        self._given = [one for one in overrides if key_of(one).split(".")[0] not in ("study", "study_dir")]
        self._hydra, self._whole = hydra, whole

    def answer(self) -> None:
        """Measure what is left to measure, weigh it, tell."""
        self._refuse_another()
        self._stages.say(self._options.question)
        run = self._measured_run()
        self._stages.share([run])
        noise = self._noise(run)
        self._time(run)
        calibration = self._calibration(run, noise) if self._options.calibrate else None
        content = self._measured(noise) | {"calibration": calibration}
        replace(self._path / FILE, orjson.dumps(content, option=orjson.OPT_INDENT_2))
        from mbtrain.analysis.advice import write_advice
        from mbtrain.study.advice_table import show

        page, advice = write_advice(self._path)
        show(advice, self._stages.console)
        self._stages.say(f"report: {page}")

    def _refuse_another(self) -> None:
        """Two questions do not share a folder: their measurements would be mixed."""
        file = self._path / "design.json"
        asked = {"given": self._given, "sizes": self._options.sizes, "trajectory": self._options.trajectory}
        asked |= {"from": self._options.run, "seconds": self._options.seconds}
        ours = orjson.dumps(asked, option=orjson.OPT_INDENT_2)
        if file.is_file() and file.read_bytes() != ours:
            raise Refused(f"study_dir={self._path}: holds advice on another run: choose another study_dir")
        replace(file, ours)

    def _measured_run(self) -> Job:
        overrides = [*self._own(), *MEASURED, f"duration={self._options.trajectory}"]
        config = Compositions(self._hydra, self._whole).config_of(overrides)
        HydraConfig.instance().set_config(config)
        values = plain(config)
        check(values)
        return measured_run(values, tuple(overrides), self._path)

    def _noise(self, run: Job) -> MeasuredNoise:
        # The calibration looks there for its target besides.
        if self._options.run is not None and not self._options.calibrate:
            return noise_of(Path(self._options.run), key="study.from")
        self._stages.run("trajectory", [run])
        if not is_done(run):
            self._stages.say((run.folder / "output.txt").read_text())
            raise _Failed(1)
        if self._options.run is not None:
            return noise_of(Path(self._options.run), key="study.from")
        return noise_of(run.folder, key="study_dir")

    def _time(self, run: Job) -> None:
        """In a process of its own: this one, which forks others, must not have computed with several threads."""
        if (self._path / advice_timing.FILE).is_file():
            return
        self._stages.say("timing: one whole update, made in every way")
        process = started(
            advice_timing.write_timing,
            self._values,
            self._options.sizes,
            self._options.seconds,
            self._path,
            self._stages.data_of(run),
        )
        while process.exitcode is None:
            wait([process.sentinel], timeout=0.1)
            self._stop.pass_on([process.pid] if process.is_alive() and process.pid is not None else [])
        if self._stop.received is not None:
            self._stages.say("interrupted: the same command goes on")
            raise Stopped
        if process.exitcode:
            raise _Failed(process.exitcode if process.exitcode > 0 else 1)

    def _calibration(self, run: Job, noise: MeasuredNoise) -> dict[str, Any]:
        """Some batch sizes trained to a target, as a study of its own in this one's folder."""
        from mbtrain.study.study import answer

        target, samples, sentence = advice_calibration.target_of(self._options.target, run.folder)
        timed = orjson.loads((self._path / advice_timing.FILE).read_bytes())["ways"]
        candidates = sorted({one["batch_size"] for one in timed})
        design = advice_calibration.design_of(
            advice_calibration.calibrated_sizes(candidates, self._options.calibrated_sizes),
            target,
            samples,
            values=self._values,
            noise_scale=noise.scale,
            search=self._options.search,
        )
        folder = self._path / "calibration"
        folder.mkdir(exist_ok=True)
        self._stages.say(sentence)
        trials = Trials(self._hydra, self._whole, design, self._own(), folder)
        stages = Stages(folder, self._stop, self._stages.console)
        answer(design, trials, stages, folder, shlex.join(["mbtrain", *self._overrides]))
        return advice_calibration.told(folder, sentence)

    def _own(self) -> list[str]:
        """The user's overrides that say how an update is made."""
        return [one for one in self._given if key_of(one).split(".")[0] not in OWN]

    def _measured(self, noise: MeasuredNoise) -> dict[str, Any]:
        """What the analysis reads, and what whoever doubts it needs."""
        values = self._values
        return {
            "question": self._options.question,
            "command": shlex.join(["mbtrain", *self._overrides]),
            "given": self._given,
            "git": git_state(),
            "versions": versions(PACKAGES),
            "cores": os.cpu_count(),
            "own": {key: values["batch"][key] for key in ("size", "micro_size", "accumulate")}
            | {"group_size": values["batch_norm"]["group_size"], "lr": values["optimizer"]["lr"]}
            | {"optimizer": values["optimizer"]["_target_"].rsplit(".", 1)[-1]},
            "noise": noise.told() | {"trajectory": self._options.trajectory if self._options.run is None else None},
            "timing": orjson.loads((self._path / advice_timing.FILE).read_bytes()),
        }


def key_of(override: str) -> str:
    """The key of an override.

    >>> key_of("+optimizer.eps=1e-6")
    'optimizer.eps'
    """
    return override.lstrip("+~").partition("=")[0]
