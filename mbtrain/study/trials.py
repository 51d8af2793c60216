"""The runs of a study: a case under an arm at a learning rate, a seed and a length; a job in its stage's folder."""

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hydra._internal.hydra import Hydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from mbtrain.config.check import check
from mbtrain.config.compose import plain
from mbtrain.study.composition import Compositions
from mbtrain.study.design import Case, Design
from mbtrain.study.jobs import Job


class Trials:
    """Makes jobs; each case and arm is composed and checked once."""

    def __init__(self, hydra: Hydra, whole: DictConfig, design: Design, given: Sequence[str], path: Path) -> None:
        self._compositions = Compositions(hydra, whole)
        self._design, self._path = design, path
        # What the command line says counts more than the study, not more than an arm.
        self._bases = {
            (case.name, arm): self._composed([*design.overrides, *case.overrides, *given, *overrides])
            for case in design.cases
            for arm, overrides in design.arms.items()
        }

    def job(
        self, stage: str, case: Case, arm: str, *, lr: float, seed: int, iterations: int, validate_every: int | None
    ) -> Job:
        """The job of one run, `validate_every` in samples; its folder says which it is."""
        overrides, base = self._bases[case.name, arm]
        name = f"{case.name}_{arm}_lr={lr:g}_seed={seed}"
        every = None if validate_every is None else f"{validate_every}sp"
        config = copy.deepcopy(base)
        config["optimizer"]["lr"], config["seed"], config["duration"] = lr, seed, f"{iterations}it"
        config["validate"]["every"] = every
        config |= {"run_dir": str(self._path / stage / name), "sweep_dir": str(self._path / stage)}
        own = [f"optimizer.lr={lr:g}", f"seed={seed}", f"duration={iterations}it", f"validate.every={every or 'null'}"]
        return Job(self._path / stage / name, (*overrides, *own), config)

    def _composed(self, overrides: list[str]) -> tuple[tuple[str, ...], dict[str, Any]]:
        overrides = [*overrides, "tracker=none", "checkpoint.every=null", "trainer.progress=false"]
        config = self._compositions.config_of(overrides)
        HydraConfig.instance().set_config(config)
        values = plain(config)
        check(values)
        return tuple(overrides), values
