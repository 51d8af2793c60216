"""The command line: Hydra wrapped, one line for what is wrong, exit codes; torch is imported last.

Exit codes: 0 done, 1 failed, 2 refused, 128 + signal interrupted.
"""

import os
import signal
import sys
from pathlib import Path
from typing import Any

from mbtrain.plan.refused import Refused


def main() -> None:
    """Run the command line and exit."""
    # A console script does not see the working folder's modules; `python -m` does.
    sys.path.insert(0, os.getcwd())
    os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra hands its errors over instead of printing several lines
    sys.exit(_exit_code())


def _exit_code() -> int:
    import hydra
    from hydra.errors import HydraException
    from omegaconf import DictConfig
    from omegaconf.errors import OmegaConfBaseException

    from mbtrain.config.compose import HYDRA_VERSION_BASE, conf_dir, one_line

    codes: list[int] = []

    def job(config: DictConfig) -> None:
        codes.append(_job(config))

    try:
        hydra.main(config_path=str(conf_dir()), config_name="train", version_base=HYDRA_VERSION_BASE)(job)()
    except Refused as error:
        return _refuse(str(error))
    except (HydraException, OmegaConfBaseException) as error:
        cause = error.__cause__ if isinstance(error.__cause__, Refused) else error
        return _refuse(str(cause) if isinstance(cause, Refused) else one_line(cause))
    except KeyboardInterrupt:
        print("mbtrain: interrupted", file=sys.stderr)
        return 128 + signal.SIGINT
    return max(codes, default=0)


def _refuse(text: str) -> int:
    for line in text.splitlines():
        print(f"mbtrain: {line}", file=sys.stderr)
    return 2


def _job(config: Any) -> int:
    """One run of the command line, alone or of a sweep."""
    from hydra.core.hydra_config import HydraConfig
    from hydra.types import RunMode

    from mbtrain.config.check import check
    from mbtrain.config.compose import plain, refuse_hidden_trust
    from mbtrain.launch import launch

    hydra_config = HydraConfig.get()
    overrides = list(hydra_config.overrides.task)
    plain_config = plain(config)
    refuse_hidden_trust(plain_config, overrides, _own_primary(hydra_config))
    if hydra_config.mode == RunMode.MULTIRUN:
        named = hydra_config.job.override_dirname or "run"
        plain_config["run_dir"] = str(Path(plain_config["sweep_dir"], named.replace("/", "_")))
    check(plain_config)
    return launch(plain_config, overrides)


def _own_primary(hydra_config: Any) -> Path | None:
    """The file of a primary config that is the user's own, not the shipped one."""
    name = hydra_config.job.config_name
    if name == "train":
        return None
    for source in hydra_config.runtime.config_sources:
        file = Path(source.path, f"{name}.yaml")
        if source.schema == "file" and file.is_file():
            return file
    return None


if __name__ == "__main__":
    main()
