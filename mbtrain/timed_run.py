"""A short run that is only timed: the run's own loop, from its first mini-batch, with everything it does."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rich.console import Console

from mbtrain.assembly import Assembly, assemble
from mbtrain.attempt import Attempt
from mbtrain.core.kept import kept_bytes
from mbtrain.core.out_of_memory import is_out_of_memory
from mbtrain.data.prepare import Data
from mbtrain.log.lock import locked
from mbtrain.norm.groups import has_batch_norm
from mbtrain.run_folder import RunFolder
from mbtrain.training.block_clock import BlockClock
from mbtrain.training.clock import Clock
from mbtrain.training.dry_run import autocast, clear_memory
from mbtrain.training.forward import Forward
from mbtrain.training.place import threads


@dataclass(frozen=True)
class Timed:
    """Of one update: seconds, processor seconds, and on a GPU the most memory held (bytes; 0 on a CPU)."""

    seconds: float
    cpu_seconds: float
    peak_bytes: int


@dataclass(frozen=True)
class Pass:
    """What one forward pass of a micro-batch keeps for its backward pass (bytes), and how the run computes."""

    kept_bytes: int
    device: str
    threads: int
    workers: int
    has_batch_norm: bool


def timed_run(config: Mapping[str, Any], *, warm_up: int, data: Data) -> Timed | None:
    """Train as `config` says and time all iterations but the first `warm_up`; None where memory runs out."""
    timed = _timed(config, warm_up, data)
    # Only here is the error gone, and with it the frames that hold the activations.
    clear_memory()
    return timed


def _timed(config: Mapping[str, Any], warm_up: int, data: Data) -> Timed | None:
    folder = RunFolder(Path(config["run_dir"]))
    assembly = assemble(config, chosen={}, data=data)
    clock = BlockClock(assembly.device, first=warm_up, last=assembly.plan.num_iterations - 1)
    watched = replace(assembly, callbacks=(*assembly.callbacks, clock))
    with folder.opened(), locked(folder.path), threads(assembly.threads):
        try:
            Attempt(config, watched, folder, Console(quiet=True), inspected=0).result()
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            return None
    return Timed(clock.seconds, clock.cpu_seconds, clock.peak_bytes)


def first_pass(config: Mapping[str, Any], *, data: Data) -> Pass:
    """The forward pass of the run's first micro-batch."""
    assembly = assemble(config, chosen={}, data=data)
    with threads(assembly.threads), autocast(assembly.device, config["trainer"]["precision"]):
        kept = kept_bytes(lambda: _output(assembly), apart_from=assembly.model.parameters())
    return Pass(
        kept, str(assembly.device), assembly.threads, assembly.workers, has_batch_norm=has_batch_norm(assembly.model)
    )


def _output(assembly: Assembly) -> object:
    mini_batch = assembly.loader(Clock(assembly.plan)).first(assembly.plan.largest_size)
    micro = next(mini_batch.micro_batches())
    return Forward(assembly.model, assembly.loss, assembly.groups)(micro)
