"""Starts one run from a checked config: trackers first, then torch, and a table at the end."""

import errno
import os
import re
import shlex
import shutil
import sys
import traceback
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.markup import escape
from rich.text import Text

from mbtrain.plan.failed import Failed
from mbtrain.plan.refused import Refused
from mbtrain.run_folder import RunFolder, continued
from mbtrain.side_process import SideProcess, TrackerReport
from mbtrain.trackers import missing
from mbtrain.trackers.states import keep_in_result

if TYPE_CHECKING:
    from mbtrain.one_run import Result


# What a disk says that takes no more: the run is whole up to its last checkpoint.
DISK_ERRORS = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO}


def launch(config: dict[str, Any], overrides: Sequence[str] = ()) -> int:
    """Train and tell; the exit code. Raises Refused."""
    console = Console(stderr=True)
    config = _resumed(config, overrides)
    side = _side_process(config)
    with _loading(console):
        from mbtrain.training.signals import Interrupted

    try:
        result = _trained(config, console, side)
    except Interrupted as error:
        side.finish()
        console.print(f"{error}: {_continue_line(config['run_dir'])}", highlight=False, soft_wrap=True)
        if error.asks_for_requeue:
            from mbtrain.training.requeue import requeue

            is_by_name = any(one.startswith("resume=") for one in overrides)
            console.print(requeue(config["run_dir"], is_resumed_by_name=is_by_name), highlight=False, soft_wrap=True)
        return error.exit_code
    except Refused:
        raise
    except Exception as error:
        side.finish()
        line = _known(error, config["run_dir"])
        if line is None:
            traceback.print_exc()
        console.print(
            f"failed: {line or ''}{_continue_line(config['run_dir'])}", highlight=False, markup=False, soft_wrap=True
        )
        return 1
    _tell(result, side, console)
    return 0


def run(config: dict[str, Any], overrides: Sequence[str], *, is_quiet: bool) -> "Result":
    """Train and give the Result (from Python); raises what goes wrong."""
    console = Console(stderr=True, quiet=is_quiet)
    config = _resumed(config, overrides)
    side = _side_process(config)
    result = _trained(config, console, side)
    if result.is_new:
        side.finish()
        keep_in_result(result.run_dir)
    return result


def _resumed(config: dict[str, Any], overrides: Sequence[str]) -> dict[str, Any]:
    if config["resume"] not in ("auto", "never"):
        config = continued(config["resume"], config, list(overrides))
    RunFolder(Path(config["run_dir"])).admit(config)
    return config


def _side_process(config: Mapping[str, Any]) -> SideProcess:
    for name in config["tracker"]:
        if (line := missing(name)) is not None:
            raise Refused(line)
    side = SideProcess(config["run_dir"], config["tracker"], trust=config["trust"])
    side.start()
    return side


def _trained(config: Mapping[str, Any], console: Console, side: SideProcess) -> "Result":
    try:
        from mbtrain.one_run import train

        result = train(config, console)
    except (Refused, KeyboardInterrupt):
        side.cancel()
        raise
    if not result.is_new:
        side.cancel()
    return result


def _loading(console: Console) -> AbstractContextManager[object]:
    """Shown while modules are imported, which takes seconds; gone after that."""
    return console.status("loading torch and Lightning") if console.is_terminal else nullcontext()


def _tell(result: "Result", side: SideProcess, console: Console) -> None:
    """The table at the end; lines are not folded, so that a path or a command can be copied."""
    run_dir, values = result.run_dir, result.values
    if not result.is_new:
        console.print(f"{run_dir} is finished already: nothing to do", highlight=False, soft_wrap=True)
    lines = [(_spoken(key), _score(key, value)) for key, value in values.items() if _is_score(key, value)]
    lines.append(("iterations", f"{values['iterations']:,} in {values['epochs']:,} epochs"))
    lines.append(("speed", f"{values['samples_per_s'] or 0:,.0f} samples/s, {values['seconds']:.1f} s of training"))
    lines.append(("log", f"{run_dir}/iterations.jsonl, epochs.jsonl, result.json"))
    if result.is_new:
        lines += [_shown(line) for line in side.finish()]
        keep_in_result(run_dir)
    lines.append(("load it", f"mbtrain.load({str(run_dir)!r})"))
    lines.append(("continue it", f"{_command('mbtrain')} {_resume(run_dir)} duration={_twice(values['duration'])}"))
    width = max(Text.from_markup(label).cell_len for label, _ in lines)
    for label, text in lines:
        space = " " * (width - Text.from_markup(label).cell_len)
        console.print(f"[bold]{label}[/bold]{space}  {escape(text)}", highlight=False, soft_wrap=True)


def _shown(report: TrackerReport) -> tuple[str, str]:
    if report.is_complete:
        return f"open {report.name}", re.sub(r"(?<!\S)(wandb|tensorboard|trackio) ", _called, report.text)
    return f"[red]{report.name}[/red]", report.text


def _known(error: Exception, run_dir: str) -> str | None:
    """The line for an error that needs no traceback."""
    if isinstance(error, OSError) and error.errno in DISK_ERRORS:
        return f"{error.strerror} under {run_dir}: mend that (free some space); then "
    return f"{error}; " if isinstance(error, Failed) else None


def _is_score(key: str, value: Any) -> bool:
    return key.startswith(("test/", "val/", "best/test/")) and isinstance(value, float)


def _score(key: str, value: float) -> str:
    return f"{value:.2%}" if key.endswith(("accuracy", "top5")) else f"{value:.4f}"


def _spoken(key: str) -> str:
    return key.replace("/", " ").replace("val ", "validation ")


def _twice(duration: str) -> str:
    from mbtrain.plan.duration import Duration

    length = Duration.parse(duration)
    return str(Duration(length.amount * 2, length.unit))


def _continue_line(run_dir: str) -> str:
    return f"{_command('mbtrain')} {_resume(run_dir)} goes on from the last checkpoint"


def _resume(run_dir: object) -> str:
    return f"resume={shlex.quote(str(run_dir))}"


def _called(match: re.Match[str]) -> str:
    return f"{_command(match[1])} "


def _command(name: str) -> str:
    """How a command of this environment is called from here: by its name alone only where that finds it."""
    own, found = Path(sys.prefix, "bin", name), shutil.which(name)
    if not own.exists() or (found is not None and Path(found).resolve() == own.resolve()):
        return name
    return shlex.quote(os.path.relpath(own))
