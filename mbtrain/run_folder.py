"""The folder of a run: what may be written there, what is there already, and whether it may go on."""

import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import orjson
import yaml

from mbtrain.config.check import check
from mbtrain.config.schedules import lr_schedule_of
from mbtrain.log.files import replace, sync_folder
from mbtrain.log.status import read_status, write_status
from mbtrain.plan.duration import Duration
from mbtrain.plan.refused import Refused
from mbtrain.plan.run import RunPlan

# A study asks a thousand finished runs what they were: the C loader is ten times as fast, and as safe.
SAFE_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
# What may differ when a run goes on: where it stands, how long it is, who is told, what a bad number does from now on.
FREE = (
    "run_dir",
    "sweep_dir",
    "study_dir",
    "resume",
    "trust",
    "duration",
    "tracker",
    "checkpoint",
    "sweep",
    "name",
    "nonfinite",
)
# What a sweep puts into a job's folder before there is a run.
PLACED = (".lock", "status.json", "output.txt")


class RunFolder:
    """A folder under its rules: nothing is ever overwritten."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.checkpoints = path / "checkpoints"

    @property
    def has_run(self) -> bool:
        """Whether a run has begun here."""
        return (self.path / "config.yaml").is_file()

    @property
    def is_empty(self) -> bool:
        """Whether nothing is lost by starting here."""
        return not self.path.exists() or not any(_counts(one.name) for one in self.path.iterdir())

    def saved_config(self) -> dict[str, Any]:
        """The config of the run that began here; reading it runs no code."""
        try:
            config = yaml.load((self.path / "config.yaml").read_text(), Loader=SAFE_LOADER)
            assert isinstance(config, dict)
        except (OSError, yaml.YAMLError, AssertionError, UnicodeDecodeError) as error:
            raise Refused(f"run_dir={self.path}: its config.yaml cannot be read ({type(error).__name__})") from None
        return config

    def finished(self) -> dict[str, Any] | None:
        """The result of a run that is done, or None."""
        status, file = read_status(self.path), self.path / "result.json"
        return orjson.loads(file.read_bytes()) if status and status["status"] == "done" and file.is_file() else None

    def chosen(self) -> dict[str, Any]:
        """What was chosen for the run (threads, micro size), which a resume uses again."""
        file = self.path / "chosen.json"
        return json.loads(file.read_text()) if file.is_file() else {}

    @contextmanager
    def opened(self) -> Iterator[None]:
        """The folder exists for the block; one that was made for it is taken away where nothing was trained in it."""
        made = [one for one in (self.path, *self.path.parents) if not one.exists()]
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise Refused(f"run_dir={self.path}: cannot be made ({error.strerror})") from None
        if not os.access(self.path, os.W_OK):
            raise Refused(f"run_dir={self.path}: cannot be written to")
        try:
            yield
        except Refused:
            log = self.path / "iterations.jsonl"
            if self.path in made and not (log.is_file() and log.stat().st_size):
                shutil.rmtree(self.path)
                for one in made[1:]:
                    one.rmdir()
            raise

    def begin(self, config: Mapping[str, Any], *, chosen: Mapping[str, Any]) -> None:
        """Write what was asked for and chosen; from here on there is a run."""
        text = yaml.safe_dump(dict(config), sort_keys=False, allow_unicode=True)
        # The config first: a folder that holds anything but it is none of a run.
        replace(self.path / "config.yaml", text.encode())
        self.choose(chosen)
        # Last: it tells the side process that the config beside it is this run's.
        write_status(self.path, "running")

    def choose(self, chosen: Mapping[str, Any]) -> None:
        """Keep what was chosen; it is on disk when this returns."""
        replace(self.path / "chosen.json", json.dumps(dict(chosen)).encode())
        sync_folder(self.path)

    def admit(self, config: Mapping[str, Any]) -> None:
        """Refuse a start that would overwrite or mix: another config, files of something else, `resume=never`."""
        if self.path.exists() and not self.path.is_dir():
            raise Refused(f"run_dir={self.path}: is a file")
        if self.is_empty:
            return
        if config["resume"] == "never":
            raise Refused(f"run_dir={self.path}: is not empty, and resume=never: choose another folder")
        if not self.has_run:
            raise Refused(f"run_dir={self.path}: is not empty and holds no run: choose another folder")
        old = self.saved_config()
        for key, was, now in differences(old, config):
            raise Refused(
                f"{key}={_short(now)}: the run in {self.path} has {key}={_short(was)}: give it the same, "
                "or another run_dir for a new run"
            )

    def refuse_changed_past(self, old: RunPlan, new: RunPlan, config: Mapping[str, Any], done: int) -> None:
        """Refuse another duration under which the iterations done would have been different."""
        if old.duration == new.duration:
            return
        lr_old, lr_new = (plan.lr_factor(lr_schedule_of(config)) for plan in (old, new))
        if done > new.num_iterations:
            raise Refused(f"duration={new.duration}: the run in {self.path} has done {done:,} iterations already")
        for index in range(done):
            one = old.iteration(index)
            if one != new.iteration(index):
                raise Refused(
                    f"duration={new.duration}: under this batch_schedule the first {done:,} iterations would have had "
                    f"other mini-batches than with duration={old.duration}: start a new run, or use lengths in ep or sp"
                )
            middle = one.samples_before + one.size / 2
            if lr_old(middle) != lr_new(middle):
                raise Refused(
                    f"duration={new.duration}: under lr_schedule={config['lr_schedule']['_target_'].rsplit('.')[-1]} "
                    f"the first {done:,} iterations would have had other learning rates than with "
                    f"duration={old.duration}: start a new run, or use lr_schedule=constant"
                )
        for key, length in _lengths(config):
            parsed = Duration.parse(length)
            if parsed.unit == "%" and old.samples(parsed) != new.samples(parsed):
                raise Refused(f"duration={new.duration}: moves {key}={length} of the run: start a new run")


def _counts(name: str) -> bool:
    """Whether a file is more than what a run that was killed at its very start leaves."""
    return name not in PLACED and not (name.startswith(".") and name.endswith(".tmp"))


def differences(old: Mapping[str, Any], new: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any, Any]]:
    """(key, old value, new value) wherever two configs differ in what they train."""
    for name in [*old, *(one for one in new if one not in old)]:
        if not prefix and name in FREE:
            continue
        was, now = old.get(name), new.get(name)
        if isinstance(was, Mapping) and isinstance(now, Mapping):
            yield from differences(was, now, f"{prefix}{name}.")
        elif was != now or type(was) is not type(now):
            yield f"{prefix}{name}", was, now


def continued(run: str, given: Mapping[str, Any], overrides: list[str]) -> dict[str, Any]:
    """The config of `resume=RUN`: the saved one, with what the command line gives besides."""
    folder = RunFolder(Path(run))
    if not folder.has_run:
        raise Refused(f"resume={run}: is not the folder of a run (auto and never are the other choices)")
    config = folder.saved_config() | {"run_dir": run, "resume": "auto", "trust": given["trust"]}
    for override in overrides:
        keys = override.lstrip("+~").split("=")[0].split(".")
        if keys[0] not in ("resume", "run_dir", "trust", "hydra"):
            _copy(given, config, keys)
    check(config)
    return config


def _copy(source: Mapping[str, Any], target: dict[str, Any], keys: list[str]) -> None:
    for key in keys[:-1]:
        source, target = source[key], target.setdefault(key, {})
    if keys[-1] in source:
        target[keys[-1]] = source[keys[-1]]
    else:
        target.pop(keys[-1], None)


def _lengths(config: Mapping[str, Any]) -> list[tuple[str, str]]:
    norm = config["batch_norm"]
    found = [("ema", config["ema"]), ("validate.every", config["validate"]["every"])]
    found += [("batch_norm.half_life", norm["half_life"])]
    if norm["kind"] == "renorm":
        found += [(f"batch_norm.{name}", norm[name]) for name in ("renorm_start", "r_max_at", "d_max_at")]
    found += [(f"probe.{name}.every", node.get("every")) for name, node in config["probe"].items()]
    return [(key, length) for key, length in found if length is not None]


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else text[:57] + "..."
