"""Composing a config with Hydra, and Hydra's own errors as one line."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException

from mbtrain.config.check import nearest
from mbtrain.plan.refused import Refused

HYDRA_VERSION_BASE = "1.3"


def conf_dir() -> Path:
    """The shipped config groups: in the wheel beside this package's modules, in a checkout beside the package."""
    shipped = Path(__file__).parents[1] / "conf"
    return shipped if shipped.is_dir() else Path(__file__).parents[2] / "conf"


def composed(overrides: Sequence[str], *, config_dir: str | Path | None = None) -> dict[str, Any]:
    """The plain, resolved config of a list of overrides, as the command line composes it; Refused where it cannot be."""
    if config_dir is not None:
        overrides = [*overrides, f"hydra.searchpath=[file://{Path(config_dir).resolve()}]"]
    GlobalHydra.instance().clear()
    try:
        with initialize_config_dir(str(conf_dir()), version_base=HYDRA_VERSION_BASE):
            config = compose("train", list(overrides), return_hydra_config=True)
            HydraConfig.instance().set_config(config)
            return plain(config)
    except (OmegaConfBaseException, *_hydra_errors()) as error:
        raise Refused(one_line(error)) from None


def plain(config: DictConfig) -> dict[str, Any]:
    """A composed config as dicts and lists, interpolations resolved, Hydra's part left out."""
    config = config.copy()
    with open_dict(config):
        config.pop("hydra", None)
        config.pop("experiment", None)
    container = OmegaConf.to_container(config, resolve=True, throw_on_missing=True)
    assert isinstance(container, dict)
    return {str(key): value for key, value in container.items()}


def refuse_hidden_trust(config: dict[str, Any], task_overrides: Sequence[str], primary: Path | None) -> None:
    """Refuse `trust` that neither the command line nor the user's own primary config gives: a group file may be another's."""
    if any(re.match(r"\+{0,2}trust=", override) for override in task_overrides):
        return
    own = yaml.safe_load(primary.read_text()) if primary is not None else None
    if config["trust"] != ((own or {}).get("trust") or []):
        raise Refused(f"trust={config['trust']}: comes from a group's file; give trust on the command line instead")


def one_line(error: BaseException) -> str:
    """What a Hydra or OmegaConf error says, as one line with key, value, what is allowed and the nearest name."""
    text = str(error).strip()
    if match := re.search(r"Could not find '([^'/]+(?:/[^'/]+)*)/([^'/]+)'\s*Available options in '[^']+':\s*(.*)", text, re.S):
        group, choice, options = match[1], match[2], match[3].split()
        return f"{group}={choice}: no such choice{nearest(choice, options)}; choose from {', '.join(options)}"
    if match := re.search(r"Could not override '([^']+)'.*?(?:with |=)", text, re.S):
        key = match[1]
        return f"{key}: no such key{_nearest_key(key)}; mbtrain --cfg job shows all"
    if match := re.search(r"Could not override '([^']+)'", text):
        return f"{match[1]}: no such group or key{_nearest_key(match[1])}"
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    lines = [line for line in lines if not line.startswith(("reference_type", "object_type", "See https"))]
    return re.sub(r"\s+", " ", "; ".join(lines[:3])) or type(error).__name__


def _nearest_key(key: str) -> str:
    from mbtrain.config.check import all_keys

    known = list(all_keys())
    groups = {name.split(".")[0] for name in known}
    return nearest(key, [*known, *groups])


def _hydra_errors() -> tuple[type[BaseException], ...]:
    from hydra.errors import HydraException

    return (HydraException,)
