"""The command line: Hydra driven, one line for what is wrong, exit codes; torch is imported last.

Exit codes: 0 done, 1 failed, 2 refused, 128 + signal interrupted.
"""

import gc
import os
import signal
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from mbtrain.plan.refused import Refused
from mbtrain.terminal import Lasting

if TYPE_CHECKING:
    from omegaconf import DictConfig

    from mbtrain.config.driver import Driver


def main() -> None:
    """Run the command line and exit."""
    # Until a run begins there is no garbage worth the time of looking for it.
    gc.disable()
    # A console script does not see the working folder's modules; `python -m` does.
    if os.getcwd() not in sys.path and "" not in sys.path:
        sys.path.append(os.getcwd())
    # A connection that is lost takes the terminal with it: what is told from then on goes nowhere.
    sys.stderr = Lasting(sys.stderr)  # pyright: ignore[reportAttributeAccessIssue]
    sys.exit(exit_code(sys.argv[1:]))


def exit_code(arguments: Sequence[str]) -> int:
    """Do what the command line says."""
    if "--version" in arguments:
        from importlib.metadata import version

        print(f"mbtrain {version('mbtrain')}")
        return 0
    from mbtrain.config.command import drive

    try:
        code = drive(arguments, job=_job, sweep=_sweep, study=_study)
        sys.stdout.flush()
        return code
    except Refused as error:
        return _refuse(error)
    except KeyboardInterrupt:
        print("mbtrain: interrupted", file=sys.stderr)
        return 128 + signal.SIGINT
    except BrokenPipeError:
        # The reader of our output has seen enough (mbtrain --help | head).
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 128 + signal.SIGPIPE


def _refuse(error: Refused) -> int:
    for line in str(error).splitlines():
        print(f"mbtrain: {line}", file=sys.stderr)
    return 2


def _sweep(hydra: "Driver", name: str, overrides: list[str]) -> int:
    from mbtrain.study.sweep import sweep

    return sweep(hydra, name, overrides, _job)


def _study(hydra: "Driver", name: str, overrides: list[str]) -> int:
    if "study=advise" in overrides:
        from mbtrain.study.advice import advise

        return advise(hydra, name, overrides)
    from mbtrain.study.study import study

    return study(hydra, name, overrides)


def _job(config: "DictConfig") -> int:
    """One run of the command line, alone or of a sweep that Hydra launches."""
    from hydra.core.hydra_config import HydraConfig
    from hydra.types import RunMode

    from mbtrain.config.check import check
    from mbtrain.config.compose import plain
    from mbtrain.study.multirun import prepared

    hydra, is_alone = HydraConfig.get(), HydraConfig.get().mode == RunMode.RUN
    try:
        values = plain(config) if is_alone else prepared(config)
        check(values)
        code = _launched(values, list(hydra.overrides.task))
    except Refused as error:
        return _refuse(error)
    if code > 128 and not is_alone:
        # Who stops one job of a sweep means the sweep.
        raise SystemExit(code)
    return code


def _launched(values: dict, overrides: list[str]) -> int:
    from mbtrain.launch import launch

    gc.freeze()
    gc.enable()
    return launch(values, overrides)


if __name__ == "__main__":
    main()
