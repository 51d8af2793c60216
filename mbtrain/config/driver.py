"""Hydra, driven: one composition a run, nothing instantiated that is not trusted, every complaint as Refused."""

import argparse
import importlib.metadata
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

import yaml
from hydra import version
from hydra._internal.hydra import Hydra
from hydra._internal.utils import create_config_search_path, get_args_parser
from hydra.core.config_search_path import ConfigSearchPath, SearchPathQuery
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from mbtrain.config.messages import one_line
from mbtrain.config.trust import refuse_untrusted, targets
from mbtrain.plan.refused import Refused

HYDRA_VERSION_BASE = "1.3"
Job = Callable[[DictConfig], int]


class Driver(Hydra):
    """Hydra with our rules: what its own part of the config names is trusted code, and `${hydra:…}` holds in sweeps."""

    def compose_config(self, config_name: str | None, overrides: list[str], *args: Any, **options: Any) -> DictConfig:
        """Compose; Refused where a file would have Hydra itself run foreign code."""
        config = super().compose_config(config_name, overrides, *args, **options)
        for key, target in targets(OmegaConf.to_container(config.hydra, resolve=False), "hydra"):
            refuse_untrusted(target, key=key)
        return config
