"""The jobs of a sweep: all are composed and checked before the first begins, each has a folder of its own."""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra._internal.hydra import Hydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import DictConfig

from mbtrain.config.check import Faults, check
from mbtrain.config.compose import plain
from mbtrain.plan.refused import Refused
from mbtrain.study.composition import Compositions

LONGEST = 120
# What changes nothing of what a job trains, and so is no part of its folder's name.
UNNAMED = ("sweep_dir", "data_root", "trust", "tracker", "resume", "checkpoint", "sweep", "trainer.progress")


@dataclass(frozen=True)
class Job:
    """One run of a sweep: its folder, the overrides that make it, its checked plain config."""

    folder: Path
    overrides: tuple[str, ...]
    config: dict[str, Any]

    @property
    def name(self) -> str:
        """The name of its folder."""
        return self.folder.name


def checked_jobs(configs: Iterator[DictConfig]) -> list[Job]:
    """The jobs of composed configs in their common folder; Refused with all that is wrong with any of them."""
    found: list[tuple[tuple[str, ...], dict[str, Any]]] = []
    names: dict[str, None] = {}
    faults: dict[str, None] = {}
    for config in configs:
        HydraConfig.instance().set_config(config)
        overrides = tuple(HydraConfig.get().overrides.task)
        name = job_folder(overrides)
        try:
            found.append((overrides, _checked(config, overrides)))
        except Refused as error:
            faults |= dict.fromkeys(str(error).splitlines())
            continue
        if name in names:
            faults[f"-m: two jobs would write to {found[-1][1]['sweep_dir']}/{name}: give each value once"] = None
        names[name] = None
    if faults:
        raise Faults(faults)
    folder = common_folder([values["sweep_dir"] for _, values in found])
    return [_placed(overrides, values, folder, name) for (overrides, values), name in zip(found, names, strict=True)]


def composed_jobs(hydra: Hydra, whole: DictConfig) -> Iterator[DictConfig]:
    """The config of each job as Hydra's basic sweeper makes them of `whole`, the sweep's own config."""
    params = [f"{key}={value}" for key, value in (whole.hydra.sweeper.params or {}).items()]
    parser = OverridesParser.create(config_loader=hydra.config_loader)
    parsed = parser.parse_overrides([*params, *whole.hydra.overrides.task])
    composed = Compositions(hydra, whole)
    for one in chain(*BasicSweeper.split_arguments(parsed, None)):
        yield composed.config_of(list(one))


def common_folder(folders: Sequence[str]) -> str:
    """One folder for a sweep whose jobs, by names of their own, would each have another.

    >>> common_folder(["sweeps/digits_mlp", "sweeps/digits_cnn"])
    'sweeps/digits_mlp+digits_cnn'
    """
    paths = [Path(one) for one in dict.fromkeys(folders)]
    return str(paths[0].with_name(_shortened("+".join(one.name for one in paths))))


def job_folder(overrides: Sequence[str]) -> str:
    """The name of a job's folder: those of its overrides that change what it trains.

    >>> job_folder(["model.weights=runs/a", "batch.size=32", "tracker=csv", "sweep.jobs=2"])
    'batch.size=32,model.weights=runs_a'
    """
    named = sorted(one for one in overrides if names_job(one.lstrip("+~").split("=")[0]))
    return _shortened(",".join(named).replace("/", "_").lstrip(".")) or "run"


def names_job(key: str) -> bool:
    """Whether a key is part of a job's name, as what changes its training is.

    >>> names_job("seed"), names_job("tracker.wandb.tags")
    (True, False)
    """
    return not any(key == one or key.startswith(f"{one}.") for one in UNNAMED)


def _checked(config: DictConfig, overrides: Sequence[str]) -> dict[str, Any]:
    if any(one.startswith("run_dir=") for one in overrides):
        raise Refused("run_dir: each job of a sweep has its own folder: give sweep_dir=PATH")
    values = plain(config)
    check(values)
    if values["resume"] not in ("auto", "never"):
        raise Refused(f"resume={values['resume']}: is one run's folder: a sweep goes on by the same command again")
    return values


def _placed(overrides: tuple[str, ...], values: dict[str, Any], folder: str, name: str) -> Job:
    """The job in its folder, its runs grouped by the sweep's name where a tracker has groups and none is given."""
    sweep_name = Path(folder).resolve().name
    trackers = {
        key: node | {"group": sweep_name} if "group" in node and node["group"] is None else node
        for key, node in values["tracker"].items()
    }
    run_dir = Path(folder, name)
    return Job(run_dir, overrides, values | {"run_dir": str(run_dir), "sweep_dir": folder, "tracker": trackers})


def _shortened(name: str) -> str:
    if len(name) <= LONGEST:
        return name
    return f"{name[: LONGEST - 9]}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"
