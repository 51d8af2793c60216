"""A list of overrides, composed into a plain config."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException

from mbtrain.config.driver import PRIMARY, driver, with_targets_quoted
from mbtrain.config.messages import one_line
from mbtrain.plan.refused import Refused


def composed(overrides: Sequence[str], *, config_dir: str | Path | None = None) -> dict[str, Any]:
    """The plain, resolved config of a list of overrides, as the command line composes it; raises Refused."""
    with driver(config_dir=config_dir) as hydra:
        config = hydra.compose_config(PRIMARY, with_targets_quoted(overrides), RunMode.RUN, from_shell=False)
        HydraConfig.instance().set_config(config)
        return plain(config)


def plain(config: DictConfig) -> dict[str, Any]:
    """A composed config as dicts and lists, interpolations resolved, Hydra's part left out."""
    if "hydra" in config:
        config = config.copy()
        with open_dict(config):
            del config["hydra"]
    try:
        container = OmegaConf.to_container(config, resolve=True, throw_on_missing=True)
    except OmegaConfBaseException as error:
        raise Refused(one_line(error)) from error
    assert isinstance(container, dict)
    values = {str(key): value for key, value in container.items()}
    # One package may be written without the brackets of a list.
    return values | {"trust": [values["trust"]]} if isinstance(values.get("trust"), str) else values
