"""Declarative training whose subject is the mini-batch."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from mbtrain.plan.refused import Refused as Refused

if TYPE_CHECKING:
    from torch import nn

    from mbtrain.one_run import Result


def run(overrides: Sequence[str] = (), *, config_dir: str | Path | None = None, is_quiet: bool = True) -> "Result":
    """Train what the command line `mbtrain OVERRIDES` would train, in this process.

    `config_dir` is a folder of the caller's own config groups. Raises `mbtrain.Refused` for what cannot be run.
    """
    from mbtrain.config.check import check
    from mbtrain.config.compose import composed
    from mbtrain.launch import run as start

    config = composed(overrides, config_dir=config_dir)
    check(config)
    return start(config, overrides, is_quiet=is_quiet)


def load(run_dir: str | Path, *, trust: Sequence[str] = ()) -> "nn.Module":
    """The trained model of a finished run, in evaluation; it takes the data set's raw inputs."""
    from mbtrain.finished_run import load as load_run

    return load_run(run_dir, trust=trust)
