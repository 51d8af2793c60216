"""TensorBoard's event file in `RUN/tensorboard`, written by the tensorboard package alone (no torch)."""

import shlex
from pathlib import Path
from typing import Any

from tensorboard.compat.proto.event_pb2 import Event  # pyright: ignore[reportAttributeAccessIssue] (made at run time)
from tensorboard.compat.proto.summary_pb2 import Summary  # pyright: ignore[reportAttributeAccessIssue] (made at run time)
from tensorboard.summary.writer.event_file_writer import EventFileWriter

from mbtrain.trackers.values import AXES, epoch_values, values


class TensorBoard:
    """Writes one event file anew from the first row on; one event a row, its step the iteration."""

    def __init__(self, *, run_dir: str, flush_s: int) -> None:
        self._folder = Path(run_dir, "tensorboard")
        for earlier in self._folder.glob("events.out.tfevents.*"):
            earlier.unlink()
        # The clock of a replayed row: TensorBoard's axes of time then show the training, not the replay.
        self._started = Path(run_dir, "config.yaml").stat().st_mtime
        self._elapsed = 0.0
        self._last = 0
        self._writer = EventFileWriter(str(self._folder), max_queue_size=1000, flush_secs=flush_s)

    def __call__(self, kind: str, row: dict[str, Any]) -> None:
        """Add the row's numbers at the step of its iteration."""
        self._elapsed = row.get("time/elapsed_s") or self._elapsed
        self._last = row["iteration"]
        self._add(values(row) if kind == "iteration" else epoch_values(row))

    def close(self, status: str, result: dict[str, Any] | None) -> None:
        """Add the result's numbers at the last step and put the file on disk."""
        self._add({f"result/{key}": value for key, value in values(result or {}).items()})
        self._writer.close()

    @property
    def address(self) -> str:
        """The folder and the command that shows it."""
        return f"{self._folder}: tensorboard --logdir {shlex.quote(str(self._folder))}"

    def _add(self, numbers: dict[str, Any]) -> None:
        scalars = [
            Summary.Value(tag=key, simple_value=float(value))
            for key, value in numbers.items()
            if isinstance(value, int | float) and (key not in AXES or key == "epoch")
        ]
        clock = self._started + self._elapsed
        self._writer.add_event(Event(wall_time=clock, step=self._last, summary=Summary(value=scalars)))
