"""The options of the command line, and what each has Hydra do."""

from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Sequence
from typing import NoReturn

from hydra._internal.utils import get_args_parser
from omegaconf import DictConfig

from mbtrain.config.driver import PRIMARY, Driver, driver, with_targets_quoted
from mbtrain.config.messages import unknown_option
from mbtrain.plan.refused import Refused

Job = Callable[[DictConfig], int]
Sweep = Callable[[Driver, str, list[str]], int]


def drive(arguments: Sequence[str], *, job: Job, sweep: Sweep, study: Sweep) -> int:
    """Do what the command line asks.

    `job` is called on a composed config, `sweep` on the overrides after -m, `study` on those that name a study.
    """
    options, parser = parsed(arguments)
    with driver(config_path=options.config_path, config_dir=options.config_dir) as hydra:
        return _driven(hydra, options, parser, job, sweep, study)


def parsed(arguments: Sequence[str]) -> tuple[Namespace, ArgumentParser]:
    """The options of a command line, in any order, and their parser; Refused in one line where there is none such."""

    def refuse(message: str) -> NoReturn:
        raise Refused(unknown_option(message, known))

    parser = get_args_parser()
    known = [word for action in parser._actions for word in action.option_strings]
    parser.prog, parser.error = "mbtrain", refuse
    options = parser.parse_intermixed_args(arguments)
    if options.experimental_rerun:
        raise Refused("--experimental-rerun: reads a pickle, which can run code: mbtrain resume=RUN goes on with a run")
    if bool(options.run) + bool(options.multirun) + bool(options.cfg) + bool(options.info) > 1:
        raise Refused("--run, --multirun, --cfg, --info: one at a time")
    if any(one.lstrip("+").startswith("hydra.mode=") for one in options.overrides):
        raise Refused("hydra.mode: write -m for a sweep, nothing for a run")
    return options, parser


def _driven(hydra: Driver, options: Namespace, parser: ArgumentParser, job: Job, sweep: Sweep, study: Sweep) -> int:
    name, overrides = options.config_name or PRIMARY, with_targets_quoted(options.overrides)
    if options.help:
        hydra.app_help(name, parser, options)
    elif options.hydra_help:
        hydra.hydra_help(name, parser, options)
    elif options.cfg:
        hydra.show_cfg(name, overrides, options.cfg, options.package, options.resolve)
    elif options.shell_completion:
        hydra.shell_completion(name, overrides)
    elif options.info:
        hydra.show_info(options.info, name, overrides)
    elif options.multirun:
        if _names_study(overrides):
            raise Refused("-m: a study makes its own runs: leave -m out")
        return sweep(hydra, name, overrides)
    elif _names_study(overrides):
        return study(hydra, name, overrides)
    else:
        return hydra.run(name, job, [*overrides, "hydra.mode=RUN"]).return_value
    return 0


def _names_study(overrides: Sequence[str]) -> bool:
    return any(one.startswith("study=") and one != "study=null" for one in overrides)
