"""Hydra, driven: one composition a run, no file but a primary config decides what may run, complaints as Refused."""

import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from string import Template
from typing import Any

import yaml
from hydra import version
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.hydra import Hydra
from hydra._internal.utils import create_config_search_path
from hydra.core.config_search_path import SearchPathQuery
from hydra.core.default_element import ResultDefault
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException, MissingConfigException
from hydra.plugins.config_source import ConfigResult
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from mbtrain.config.choices import listed
from mbtrain.config.messages import one_line
from mbtrain.config.trust import refuse_untrusted, targets
from mbtrain.plan.refused import Refused

HYDRA_VERSION_BASE = "1.3"
# The interpolations that anybody's file may use: other keys, the date, Hydra's own; not ${oc.env:NAME}, nor one whose
# name is itself put together.
_HARMLESS = re.compile(r"\$\{\s*(hydra:[\w./-]+|now:[^${}]*|[\w./\[\]-]+)\s*\}")
PRIMARY = "train"


def conf_dir() -> Path:
    """The shipped config groups: in the wheel beside this package's modules, in a checkout beside the package."""
    shipped = Path(__file__).parents[1] / "conf"
    return shipped if shipped.is_dir() else Path(__file__).parents[2] / "conf"


class Loader(ConfigLoaderImpl):
    """Loads config files; of the user's, only a primary config chosen by name may set `trust` and `hydra`."""

    composed: DictConfig | None = None

    def keys(self) -> list[str]:
        """The keys of the last composed config, before the command line changed it."""
        return [] if self.composed is None else _keys(OmegaConf.to_container(self.composed))

    def choices_of(self, groups: Iterable[str]) -> dict[str, list[str]]:
        """The choices of each group; asked for one by one, Hydra copies all that it has found each time."""
        _, repository = self._parse_overrides_and_create_caching_repo(None, [])
        return {group: repository.get_group_options(group) for group in groups}

    def _compose_config_from_defaults_list(self, defaults: list[ResultDefault], repo: Any) -> DictConfig:
        self.composed = super()._compose_config_from_defaults_list(defaults, repo)
        return self.composed

    def _load_single_config(self, default: ResultDefault, repo: Any) -> ConfigResult:
        loaded = super()._load_single_config(default, repo)
        is_shipped = loaded.provider in ("hydra", "schema") or loaded.path == f"file://{conf_dir()}"
        if not is_shipped and not default.primary:
            _refuse_strangers_keys(OmegaConf.to_container(loaded.config), f"{default.config_path}.yaml")
        return loaded


def _refuse_strangers_keys(content: Any, file: str) -> None:
    """Refuse what only the user may say: what runs, and what is read from the environment, where secrets are."""
    own = "give %s on the command line or in your own primary config (--config-name)"
    for key in ("trust", "hydra"):
        if key in content:
            raise Refused(f"{key}={content[key]}: is set by {file}, which may be another's: {own % key}")
    for key, value in _leaves(content):
        if isinstance(value, str) and "${" in _HARMLESS.sub("", value):
            raise Refused(
                f"{key}={value}: {file}, which may be another's, may only name other keys in ${{}}: {own % key}"
            )


def _leaves(node: Any, key: str = "") -> Iterator[tuple[str, Any]]:
    """Every key and value that is no mapping or list, the names of keys too."""
    if isinstance(node, dict | list):
        pairs = node.items() if isinstance(node, dict) else enumerate(node)
        for name, value in pairs:
            inner = f"{key}.{name}" if key else str(name)
            yield inner, name
            yield from _leaves(value, inner)
    else:
        yield key, node


class Driver(Hydra):
    """Hydra with our rules of trust, our help page, and `${hydra:…}` known to a sweep too."""

    def compose_config(
        self, config_name: str | None, overrides: list[str], run_mode: RunMode, *args: Any, **options: Any
    ) -> DictConfig:
        """Compose; Refused where Hydra itself would build what is not trusted."""
        try:
            config = super().compose_config(config_name, overrides, run_mode, *args, **options)
        except ValueError as error:
            # Hydra's own for GROUP=null and the like.
            raise Refused(f"{_groups_without_choice(overrides)}: {error}") from error
        if run_mode == RunMode.MULTIRUN:
            # The sweep's own folder is resolved before any job is.
            HydraConfig.instance().set_config(config)
            OmegaConf.set_readonly(config.hydra, None)
        trust = config.get("trust") or ()
        parts = {name: OmegaConf.to_container(config.hydra[name]) for name in ("launcher", "sweeper", "callbacks")}
        for key, target in targets(parts, "hydra"):
            refuse_untrusted(target, key=key, trust=[trust] if isinstance(trust, str) else trust)
        return config

    def app_help(self, config_name: str | None, args_parser: Any, args: Any) -> None:
        """Print the help page of the primary config, with the groups in the order of its defaults list."""
        config = self.compose_config(config_name, args.overrides, RunMode.RUN)
        choices = reversed(config.hydra.runtime.choices.items())
        chosen = {name: choice for name, choice in choices if "/" not in name}
        assert isinstance(self.config_loader, Loader)
        groups = self.config_loader.choices_of(chosen)
        print(Template(config.hydra.help.template).substitute(APP_CONFIG_GROUPS=listed(groups, chosen)))


@contextmanager
def driver(*, config_path: str | None = None, config_dir: str | Path | None = None) -> Iterator[Driver]:
    """Hydra on the shipped groups (or `config_path`) and the user's `config_dir`; its errors come out as Refused."""
    for name, folder in (("config-path", config_path), ("config-dir", config_dir)):
        if folder is not None and not Path(folder).is_dir():
            raise Refused(f"--{name}={folder}: there is no such folder")
    if config_dir is not None:
        _refuse_doubles(Path(config_dir))
    GlobalHydra.instance().clear()
    version.setbase(HYDRA_VERSION_BASE)
    loader = Loader(_search_path(config_path, config_dir))
    try:
        hydra = Driver("mbtrain", loader)
        GlobalHydra.instance().initialize(hydra)
        yield hydra
    except MissingConfigException as error:
        group = (error.missing_cfg_file or "").rpartition("/")[0]
        error.options = error.options or (loader.get_group_options(group) if group else ())
        raise Refused(one_line(error)) from error
    except (HydraException, OmegaConfBaseException, yaml.YAMLError) as error:
        raise Refused(one_line(error, keys=loader.keys(), choices_with=choices_with)) from error
    finally:
        GlobalHydra.instance().clear()


def choices_with(key: str) -> list[str]:
    """The shipped choices of a key's group that have it.

    >>> choices_with("batch_schedule.at"), choices_with("batch_norm.kind")[0], choices_with("batch.sise")
    (['batch_schedule=stepwise'], 'batch_norm=batch|frozen|ghost|group_norm|layer_norm|none|renorm', [])
    """
    group, _, option = key.partition(".")
    files = sorted((conf_dir() / group).glob("*.yaml"))
    having = [one.stem for one in files if re.search(rf"^{re.escape(option)}:", one.read_text(), re.M)]
    return [f"{group}={'|'.join(having)}"] if len(having) > 3 else [f"{group}={one}" for one in having]


def with_targets_quoted(overrides: Sequence[str]) -> list[str]:
    """The overrides with `val/loss<1.6` and the like in quotes: Hydra's grammar has no < and >.

    >>> with_targets_quoted(["validate.stop_at=val/loss<1.6", "seed=1"])
    ['validate.stop_at="val/loss<1.6"', 'seed=1']
    """
    bare = r"(?<![\"'\w])val/\w+\s*[<>]=?\s*[-+.\w]+"
    keys = ("validate.stop_at=", "study.target=")
    return [re.sub(bare, r'"\g<0>"', one) if one.startswith(keys) else one for one in overrides]


def _refuse_doubles(config_dir: Path) -> None:
    """Hydra would take the shipped file and say nothing."""
    for shipped in conf_dir().rglob("*.yaml"):
        own = config_dir / shipped.relative_to(conf_dir())
        if own.is_file() and own.read_bytes() != shipped.read_bytes():
            raise Refused(f"{own}: has the name of a shipped file, which would be used: give yours a name of its own")


def _search_path(config_path: str | None, config_dir: str | Path | None) -> Any:
    main = conf_dir() if config_path is None else Path(config_path).absolute()
    search_path = create_config_search_path(str(main))
    if config_dir is not None:
        anchor = SearchPathQuery(provider="schema")
        search_path.prepend("command-line", f"file://{Path(config_dir).absolute()}", anchor)
    return search_path


def _keys(node: Any, prefix: str = "") -> list[str]:
    """Every key of a config by its full name, Hydra's left out."""
    found = []
    for name, value in node.items():
        if prefix or name != "hydra":
            found.append(f"{prefix}{name}")
            found += _keys(value, f"{prefix}{name}.") if isinstance(value, dict) else []
    return found


def _groups_without_choice(overrides: list[str]) -> str:
    return ", ".join(one for one in overrides if re.fullmatch(r"[\w/]*=(null|[\d.]*)", one)) or "a group"
