"""One run on one page: build, train, test, close, and its Result."""

import gc
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
from rich.console import Console

from mbtrain.assembly import Assembly, assemble
from mbtrain.attempt import Attempt
from mbtrain.data.prepare import Data
from mbtrain.log.files import replace
from mbtrain.log.lock import locked
from mbtrain.log.status import first_line, write_status
from mbtrain.micro_size import with_micro_size
from mbtrain.plan.failed import Failed
from mbtrain.run_folder import RunFolder
from mbtrain.thread_count import with_threads
from mbtrain.training.finite import NotFinite
from mbtrain.training.place import threads
from mbtrain.training.signals import Interrupted

NUM_REPLAYS = 3


@dataclass(frozen=True)
class Result:
    """What a run leaves: its folder, and result.json as a mapping; `is_new` is false where it was done before."""

    run_dir: Path
    values: Mapping[str, Any]
    is_new: bool = True

    def __getitem__(self, key: str) -> Any:
        return self.values[key]


def train(config: Mapping[str, Any], console: Console, *, cores: int | None = None, data: Data | None = None) -> Result:
    """Train what `config` says, from the start or from the last checkpoint in its folder.

    It computes on `cores`, all by default; `data` is given where it has been read already.
    Raises Refused before anything is trained or written, Interrupted after a signal, with a checkpoint written, Failed
    where a number is not finite.
    """
    folder = RunFolder(Path(config["run_dir"]))
    folder.admit(config)
    finished = folder.finished()
    if finished is not None and folder.saved_config()["duration"] == config["duration"]:
        return Result(folder.path, finished, is_new=False)

    def built() -> Assembly:
        return assemble(config, chosen=folder.chosen(), cores=cores, data=data)

    def settled(assembly: Assembly) -> Assembly:
        assembly = with_threads(assembly, folder.chosen(), tell, cores=cores)
        with threads(assembly.threads):
            return with_micro_size(assembly, folder.chosen(), tell)

    def tell(line: str) -> None:
        console.print(line, highlight=False, markup=False, soft_wrap=True)

    assemblies = [built()]
    for line in assemblies[0].data.notes:
        tell(line)
    with folder.opened(), locked(folder.path), _status_of(folder.path):
        assemblies.append(settled(assemblies.pop()))
        for line in assemblies[0].lines:
            tell(line)
        with threads(assemblies[0].threads):
            # Popped: nothing but the attempt itself holds the model, so that a replay has room for another.
            result = _trained(config, lambda: assemblies.pop() if assemblies else settled(built()), folder, console)
        replace(folder.path / "result.json", orjson.dumps(result, option=orjson.OPT_INDENT_2))
    return Result(folder.path, result)


def _trained(
    config: Mapping[str, Any], assembly: Callable[[], Assembly], folder: RunFolder, console: Console
) -> dict[str, Any]:
    """Train; where a number was not finite, again from the last checkpoint, each iteration looked at."""
    inspected = 0
    for _ in range(1 + NUM_REPLAYS):
        try:
            return Attempt(config, assembly(), folder, console, inspected=inspected).result()
        except NotFinite as error:
            inspected = error.iteration
            console.print(f"{error}: going back to the last checkpoint to find where", highlight=False)
        gc.collect()
    raise Failed(f"numbers were not finite by iteration {inspected:,}, and {NUM_REPLAYS} replays did not repeat it")


@contextmanager
def _status_of(run_dir: Path) -> Iterator[None]:
    """status.json says at the end of the block how it ended."""
    try:
        yield
    except BaseException as error:
        # Where the disk is full this cannot be said either; a reader sees that the process is gone.
        with suppress(OSError):
            write_status(run_dir, "interrupted" if isinstance(error, Interrupted) else "failed", first_line(error))
        raise
    write_status(run_dir, "done")
