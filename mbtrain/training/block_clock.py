"""Times a block of whole iterations inside a run: device waited for at both ends, the processor's time beside."""

import time
from typing import Any

import pytorch_lightning as pl
import torch

from mbtrain.training.module import MiniBatchModule


class BlockClock(pl.Callback):
    """Looks at the clocks when iteration `first` begins and when iteration `last` does (counted from 0).

    What lies between is all that an iteration costs in a run: gather, passes, update, hooks, the row of the log.
    """

    def __init__(self, device: torch.device, *, first: int, last: int) -> None:
        assert first < last
        self._device, self._first, self._last = device, first, last
        self._readings: list[tuple[float, float]] = []
        # The most that the GPU's memory held between the two; 0 on a CPU.
        self.peak_bytes = 0

    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
        """Before every iteration."""
        assert isinstance(pl_module, MiniBatchModule)
        done = pl_module.parts.clock.done
        if done in (self._first, self._last):
            self._read(is_first=done == self._first)

    @property
    def seconds(self) -> float:
        """Of one iteration."""
        return self._mean(0)

    @property
    def cpu_seconds(self) -> float:
        """Processor time of one iteration, all threads of the process."""
        return self._mean(1)

    def _mean(self, clock: int) -> float:
        (start, end) = self._readings
        return (end[clock] - start[clock]) / (self._last - self._first)

    def _read(self, *, is_first: bool) -> None:
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)
            if is_first:
                torch.cuda.reset_peak_memory_stats(self._device)
            self.peak_bytes = torch.cuda.max_memory_allocated(self._device)
        self._readings.append((time.perf_counter(), time.process_time()))
