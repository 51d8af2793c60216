"""Runs and sweeps found in folders: config, status, result and overrides of each, damaged ones told and left out."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson
import yaml

from mbtrain.log.status import process_lives
from mbtrain.plan.refused import Refused

SWEEP_FILE, CONFIG_FILE = "sweep.json", "config.yaml"
# Folders of folders are looked into this deep.
DEPTH = 3
# A row of epochs.jsonl is shorter than this.
TAIL_BYTES = 1 << 16


@dataclass(frozen=True)
class Run:
    """One run's folder as it stood when it was read; `config` is flat (`batch.size`), `group` its sweep or folder,
    `overrides` its own, then those of all jobs of its sweep."""

    folder: Path
    name: str
    group: str
    overrides: tuple[str, ...]
    status: str
    message: str
    config: Mapping[str, Any]
    result: Mapping[str, Any]

    @property
    def is_counted(self) -> bool:
        """Whether it is an outcome of its setting: it is done, or it diverged; not so where a machine let it down."""
        return self.status == "done" or self.has_diverged

    @property
    def has_diverged(self) -> bool:
        """Whether a loss that was not finite stopped it (nonfinite=stop), as its message says."""
        return self.status == "failed" and "not finite" in self.message


@dataclass
class Found:
    """All that was found: runs, the factors that sweeps declare, and what was damaged."""

    runs: list[Run] = field(default_factory=list)
    factors: list[str] = field(default_factory=list)
    groups: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def find(folders: Sequence[Path]) -> Found:
    """Everything in `folders`, each being a run, a sweep, or a folder of runs or sweeps.

    Raises Refused where one of them holds neither.
    """
    found = Found()
    for folder in folders:
        if not folder.is_dir():
            raise Refused(f"{folder}: is not a folder: give the folder of a run, of a sweep, or one that holds some")
        count = len(found.runs)
        _look(folder, found, depth=0, group=folder.resolve().name)
        if len(found.runs) == count:
            told = f" ({found.notes[-1]})" if found.notes else ""
            raise Refused(f"{folder}: holds no run and no sweep{told}: give a folder with a config.yaml or sweep.json")
    found.runs = list({run.folder.resolve(): run for run in found.runs}.values())
    return found


def flat(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """A nested config with the keys of the command line.

    >>> flat({"batch": {"size": 32}, "seed": 0})
    {'batch.size': 32, 'seed': 0}
    """
    values: dict[str, Any] = {}
    for key, value in config.items():
        if isinstance(value, Mapping) and value:
            values |= flat(value, f"{prefix}{key}.")
        else:
            values[f"{prefix}{key}"] = value
    return values


def _look(folder: Path, found: Found, *, depth: int, group: str) -> None:
    if (folder / SWEEP_FILE).is_file() and _look_at_sweep(folder, found):
        return
    if (folder / CONFIG_FILE).is_file():
        _add(_read(folder, name=folder.resolve().name, group="runs" if depth == 0 else group), found)
    elif depth < DEPTH:
        for child in sorted(one for one in folder.iterdir() if one.is_dir() and not one.name.startswith(".")):
            _look(child, found, depth=depth + 1, group=group)


def _look_at_sweep(folder: Path, found: Found) -> bool:
    """Read a sweep; false where its own file is damaged, so that its runs are looked for one by one."""
    try:
        sweep = orjson.loads((folder / SWEEP_FILE).read_bytes())
        jobs = [(str(job["folder"]), [*map(str, job["overrides"])]) for job in sweep["jobs"]]
        given = [str(one) for one in sweep["overrides"]]
        factors = [str(one) for one in sweep["factors"]]
    except (OSError, ValueError, KeyError, TypeError):
        found.notes.append(f"{folder / SWEEP_FILE} is damaged: its runs were looked for in its folders")
        return False
    group = folder.resolve().name
    for name, own in jobs:
        keys = {_key(one) for one in own} | {"sweep_dir"}
        overrides = (*own, *(one for one in given if _key(one) not in keys))
        _add(_read(folder / name, name=name, group=group, overrides=overrides), found)
    found.factors += [one for one in factors if one not in found.factors]
    return True


def _key(override: str) -> str:
    return override.lstrip("+~").partition("=")[0]


def _add(run: Run, found: Found) -> None:
    if run.status == "damaged":
        found.notes.append(f"{run.folder}: {run.message}; left out")
        return
    found.runs.append(run)
    if run.group not in found.groups:
        found.groups.append(run.group)


def _read(folder: Path, *, name: str, group: str, overrides: tuple[str, ...] = ()) -> Run:
    status, message, config, result = "waiting", "", {}, {}
    try:
        status, message = _status(folder)
        config = flat(_mapping(folder / CONFIG_FILE, _load_yaml))
        result = _last_epoch(folder / "epochs.jsonl") | _mapping(folder / "result.json", orjson.loads)
    except (ValueError, RecursionError) as error:
        status, message = "damaged", str(error)
    return Run(folder, name, group, overrides, status, message, config, result)


def _status(folder: Path) -> tuple[str, str]:
    values = _mapping(folder / "status.json", orjson.loads)
    status, message, pid = str(values.get("status", "waiting")), values.get("message"), values.get("pid")
    if status == "running" and not (isinstance(pid, int) and process_lives(pid)):
        return "killed", str(message or "its process is gone")
    return status, str(message or "")


def _mapping(path: Path, load: Callable[[bytes], Any]) -> dict[Any, Any]:
    """The mapping in a small file, empty where there is no file; ValueError where it holds anything else."""
    try:
        values = load(path.read_bytes())
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
        raise ValueError(f"its {path.name} cannot be read ({type(error).__name__})") from None
    if not isinstance(values, dict):
        raise ValueError(f"its {path.name} holds no mapping")
    return values


def _last_epoch(path: Path) -> dict[str, Any]:
    """The last whole row of epochs.jsonl: what a run that has no result (yet) had come to."""
    try:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - TAIL_BYTES))
            lines = file.read().split(b"\n")[-2:-1]
        row = orjson.loads(lines[0]) if lines else {}
    except (OSError, ValueError):
        return {}
    return row if isinstance(row, dict) else {}


def _load_yaml(text: bytes) -> Any:
    # The loader in C is ten times as fast, which 200 configs feel; both are safe ones.
    return yaml.load(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
