"""A sweep: all its jobs are composed and checked before the first begins, each has a folder of its own."""

import hashlib
from collections.abc import Callable, Iterable, Iterator
from itertools import chain
from pathlib import Path

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra._internal.hydra import Hydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.types import RunMode
from omegaconf import DictConfig

from mbtrain.config.check import Faults, check
from mbtrain.config.compose import plain
from mbtrain.plan.refused import Refused

LONGEST = 120


def sweep(hydra: Hydra, name: str, overrides: list[str], job: Callable[[DictConfig], int]) -> int:
    """Run `job` on each combination; Refused as a whole before the first. The exit code that all have, else 1."""
    overrides = [*overrides, "hydra.mode=MULTIRUN"]
    folder = _checked_folder(jobs(hydra, name, overrides))
    if folder is not None:
        overrides.append(f"hydra.sweep.dir={_quoted(folder)}")
    returns = hydra.multirun(name, job, overrides)
    codes = {one.return_value for batch in returns for one in batch}
    return codes.pop() if len(codes) == 1 else int(bool(codes))


def jobs(hydra: Hydra, name: str, overrides: list[str]) -> Iterator[DictConfig]:
    """The config of each job as Hydra's own sweeper composes it; none where another sweeper draws them as it goes."""
    whole = hydra.compose_config(name, overrides, RunMode.MULTIRUN)
    if whole.hydra.runtime.choices["hydra/sweeper"] != "basic":
        return
    params = [f"{key}={value}" for key, value in (whole.hydra.sweeper.params or {}).items()]
    parser = OverridesParser.create(config_loader=hydra.config_loader)
    parsed = parser.parse_overrides([*params, *whole.hydra.overrides.task])
    for one in chain(*BasicSweeper.split_arguments(parsed, None)):
        yield hydra.config_loader.load_sweep_config(whole, list(one))


def prepared(config: DictConfig) -> dict:
    """The checked plain config of a job of a sweep, in its own folder."""
    hydra = HydraConfig.get()
    if any(one.startswith("run_dir=") for one in hydra.overrides.task):
        raise Refused("run_dir: each job of a sweep has its own folder: give sweep_dir=PATH")
    values = plain(config)
    values["run_dir"] = str(Path(hydra.sweep.dir, job_folder(hydra.job.override_dirname)))
    check(values)
    return values


def common_folder(folders: Iterable[str]) -> str:
    """One folder for a sweep whose jobs, by names of their own, would each have another.

    >>> common_folder(["sweeps/digits_mlp", "sweeps/digits_cnn"])
    'sweeps/digits_mlp+digits_cnn'
    """
    paths = [Path(one) for one in dict.fromkeys(folders)]
    return str(paths[0].with_name(_shortened("+".join(one.name for one in paths))))


def job_folder(override_dirname: str) -> str:
    """The name of a job's folder: its overrides.

    >>> job_folder("batch.size=32,model.weights=runs/a")
    'batch.size=32,model.weights=runs_a'
    """
    return _shortened(override_dirname.replace("/", "_").lstrip(".")) or "run"


def _checked_folder(configs: Iterable[DictConfig]) -> str | None:
    """The sweep's folder, once each of its jobs has been checked; None where they are not known ahead."""
    folders: dict[str, str] = {}
    faults: dict[str, None] = {}
    for config in configs:
        HydraConfig.instance().set_config(config)
        try:
            values = prepared(config)
        except Refused as error:
            faults |= dict.fromkeys(str(error).splitlines())
            continue
        if values["run_dir"] in folders:
            faults[f"-m: two jobs would write to {values['run_dir']}: give each value once"] = None
        folders[values["run_dir"]] = values["sweep_dir"]
    if faults:
        raise Faults(faults)
    return common_folder(folders.values()) if folders else None


def _quoted(text: str) -> str:
    """`text` as a value on Hydra's command line."""
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


def _shortened(name: str) -> str:
    if len(name) <= LONGEST:
        return name
    return f"{name[: LONGEST - 9]}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"
