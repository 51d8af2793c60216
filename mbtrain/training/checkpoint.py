"""Checkpoints: a snapshot is taken between two iterations, a thread of its own brings it to disk."""

import queue
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from pathlib import Path
from typing import Any

from lightning_fabric.plugins.io.checkpoint_io import CheckpointIO
from torch import Tensor, nn

from mbtrain.training.finite import refuse_bad_state
from mbtrain.training.sealed import Damaged, read_sealed, write_sealed

PATTERN = "iteration-*.ckpt"
BEST = "best.ckpt"


class CheckpointFiles(CheckpointIO):
    """Lightning's way to files, and the thread that writes ours behind the training's back, in the order given.

    What fails there is raised at the next call here; nothing is written after it. A checkpoint is not written where the
    log before it could not be, or where some number in it is not finite: `unbounded` are the buffers that never were.
    """

    def __init__(self, folder: Path, *, keep: int, unbounded: frozenset[str] = frozenset()) -> None:
        self._folder, self._keep, self._unbounded = folder, keep, unbounded
        self._error: BaseException | None = None
        self._queue: queue.Queue[Callable[[], None] | None] = queue.Queue()
        self._thread = threading.Thread(target=self._run, name="mbtrain-checkpoint", daemon=True)
        self._thread.start()

    # Lightning's own calls -------------------------------------------------------------------------------------------

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        """Write at once, or behind the training's back where `storage_options` is BEHIND; a snapshot either way."""
        job = self._job(snapshot(checkpoint), Path(path))
        if storage_options is BEHIND:
            self._put(job)
        else:
            self.finish()
            job()

    def load_checkpoint(self, path: Any, map_location: Any = None, weights_only: bool | None = True) -> dict[str, Any]:
        """Read tensors and plain values only."""
        return read_sealed(Path(path))

    def remove_checkpoint(self, path: Any) -> None:
        """Delete the file."""
        Path(path).unlink(missing_ok=True)

    # Ours ------------------------------------------------------------------------------------------------------------

    def save_weights(self, model: nn.Module, name: str) -> None:
        """Keep the weights that a model has now, alone."""
        content = {"weights": snapshot(model.state_dict())}
        self._put(lambda: write_sealed(content, self._folder / name))

    def finish(self) -> None:
        """Wait until all is on disk."""
        self._queue.join()
        self.raise_error()

    def close(self) -> None:
        """End the thread once all is on disk; errors have been raised, or are of no more use."""
        self._queue.put(None)
        self._thread.join()

    def raise_error(self) -> None:
        """Raise what failed in the thread."""
        if self._error is not None:
            raise self._error

    def _put(self, job: Callable[[], None]) -> None:
        self.raise_error()
        # One snapshot waiting is enough: memory is bounded, and a disk that is too slow holds the training up.
        if self._queue.unfinished_tasks > 1:
            self.finish()
        self._queue.put(job)

    def _job(self, content: dict[str, Any], path: Path) -> Callable[[], None]:
        def write() -> None:
            ours = content["mbtrain"]
            # Before the state is: rows up to here, and their means, are on disk.
            ours["recorder"] = {name: _awaited(value) for name, value in ours["recorder"].items()}
            refuse_bad_state(content, unbounded=self._unbounded)
            write_sealed(content, path)
            for old in newest(self._folder)[self._keep :]:
                old.unlink(missing_ok=True)

        return write

    def _run(self) -> None:
        while (job := self._queue.get()) is not None:
            try:
                if self._error is None:
                    job()
            except BaseException as error:  # handed to the training thread, which raises it
                self._error = error
            finally:
                self._queue.task_done()
        self._queue.task_done()


# Given as `storage_options` of Lightning's save_checkpoint: do not wait for the disk.
BEHIND = object()


def snapshot(value: Any) -> Any:
    """A copy on the host that later updates do not reach; plain values as they are."""
    if isinstance(value, Tensor):
        return value.detach().to("cpu", copy=True)
    if isinstance(value, Mapping):
        return {name: snapshot(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(snapshot(one) for one in value) if type(value) in (list, tuple) else value
    return value


def newest(folder: Path) -> list[Path]:
    """The checkpoints of a run, newest first."""
    return sorted(folder.glob(PATTERN), reverse=True)


def loadable(folder: Path, *, tell: Callable[[str], None]) -> tuple[Path, dict[str, Any]] | None:
    """The newest checkpoint that is whole, and its content; each one that is not is told of."""
    for path in newest(folder):
        try:
            content = read_sealed(path)
            content["mbtrain"]["iterations"]
        except (Damaged, OSError, KeyError, TypeError) as error:
            tell(f"checkpoint {path.name} is damaged ({error}): going on from the one before")
        else:
            return path, content
    return None


def _awaited(value: Any) -> Any:
    return value.result() if isinstance(value, Future) else value
