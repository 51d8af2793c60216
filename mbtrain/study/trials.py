"""The runs of a study: a setting at a learning rate and a seed; a job in its stage's folder."""

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hydra._internal.hydra import Hydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from mbtrain.config.check import check
from mbtrain.config.compose import plain
from mbtrain.plan.refused import Refused
from mbtrain.study.composition import Compositions
from mbtrain.study.design import Case, Design
from mbtrain.study.jobs import Job
from mbtrain.study.setting import Setting


class Trials:
    """Makes jobs; each case and arm is composed and checked once."""

    def __init__(self, hydra: Hydra, whole: DictConfig, design: Design, given: Sequence[str], path: Path) -> None:
        self._compositions = Compositions(hydra, whole)
        self._path = path
        # What the command line says counts more than the study, not more than an arm.
        self._bases = {
            (case.name, arm): self._composed([*design.overrides, *case.overrides, *given, *design.arms[arm]])
            for case in design.cases
            for arm in design.arms_of(case)
        }
        if design.is_timed and any(config["trainer"]["engine"] == "auto" for _, config in self._bases.values()):
            raise Refused(
                "trainer.engine=auto: it may take another engine for a timed run than for a long one: name one, "
                "such as trainer.engine=eager"
            )

    def job(
        self,
        stage: str,
        setting: Setting,
        *,
        lr: float,
        seed: int,
        validate_every: int | None = None,
        stop_at: str | None = None,
    ) -> Job:
        """The job of one run, `validate_every` in samples; its folder says which it is."""
        overrides, base = self._bases[setting.key]
        folder = self._path / stage / f"{setting.name}_lr={lr:g}_seed={seed}"
        every = None if validate_every is None else f"{validate_every}sp"
        config = copy.deepcopy(base)
        config["optimizer"]["lr"], config["seed"], config["duration"] = lr, seed, setting.duration
        config["validate"] |= {"every": every, "stop_at": stop_at}
        config |= {"run_dir": str(folder), "sweep_dir": str(folder.parent)}
        own = [f"optimizer.lr={lr:g}", f"seed={seed}", f"duration={setting.duration}"]
        own += [f"validate.every={every or 'null'}", f"validate.stop_at={stop_at or 'null'}"]
        return Job(folder, (*overrides, *own), config)

    def batch_size(self, case: Case, arm: str) -> int | str:
        """The mini-batch of an arm, or `all`."""
        return self._bases[case.name, arm][1]["batch"]["size"]

    def schedule(self, case: Case) -> str:
        """The learning-rate schedule of a case, by its class's name; `constant` is what may be read at any point."""
        arm = next(arm for name, arm in self._bases if name == case.name)
        return self._bases[case.name, arm][1]["lr_schedule"]["_target_"].rsplit(".", 1)[-1].lower()

    def _composed(self, overrides: list[str]) -> tuple[tuple[str, ...], dict[str, Any]]:
        overrides = [*overrides, "tracker=none", "checkpoint.every=null", "trainer.progress=false"]
        config = self._compositions.config_of(overrides)
        HydraConfig.instance().set_config(config)
        values = plain(config)
        check(values)
        return tuple(overrides), values
