"""A sweep by another launcher or sweeper of Hydra's: each job is one run in a folder of its own, as Hydra has it."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from hydra._internal.hydra import Hydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from mbtrain.config.check import check
from mbtrain.config.compose import plain
from mbtrain.plan.refused import Refused
from mbtrain.study.jobs import checked_jobs, composed_jobs, job_folder


def multirun(hydra: Hydra, name: str, overrides: list[str], whole: DictConfig, job: Callable[[DictConfig], int]) -> int:
    """Have Hydra run `job` on each combination; Refused before the first where the combinations are known ahead."""
    if whole.hydra.runtime.choices["hydra/sweeper"] == "basic":
        jobs = checked_jobs(composed_jobs(hydra, whole))
        overrides = [*overrides, f"hydra.sweep.dir={_quoted(jobs[0].config['sweep_dir'])}"]
    returns = hydra.multirun(name, job, overrides)
    codes = {one.return_value for batch in returns for one in batch}
    return codes.pop() if len(codes) == 1 else int(bool(codes))


def prepared(config: DictConfig) -> dict[str, Any]:
    """The checked plain config of a job that Hydra launches, in its own folder."""
    hydra = HydraConfig.get()
    if any(one.startswith("run_dir=") for one in hydra.overrides.task):
        raise Refused("run_dir: each job of a sweep has its own folder: give sweep_dir=PATH")
    values = plain(config)
    values["run_dir"] = str(Path(hydra.sweep.dir, job_folder(hydra.overrides.task)))
    check(values)
    return values


def _quoted(text: str) -> str:
    """`text` as a value on Hydra's command line."""
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"
