"""How fast the run is, what its time goes into, and how much memory it takes."""

import resource
import sys
from collections.abc import Mapping, Sequence

import torch
from torch import nn

from mbtrain.plan.run import Iteration
from mbtrain.probes.contract import Columns


class Throughput:
    """`time/samples_per_s`, `time/PART_s` of `data`, `forward_backward`, `update`, `logging`, and `memory/peak_bytes`.

    Speed and logging are means over the iterations since it last measured, other probes included, validation and
    checkpoints not; the other parts are of the measured iteration. All is host time: on a GPU the parts say how long
    the host took to ask for the work, and only the speed is the device's. Up to its first measurement is warm-up, and
    gives no columns. Memory is the most that tensors took on the GPU, or the process on the host, since it started.
    """

    needs = ("iteration", "time")

    def __init__(self, *, model: nn.Module) -> None:
        self._device = next(model.parameters()).device
        self._iteration: Iteration | None = None
        self._before: tuple[Iteration, Mapping[str, float]] | None = None

    def begin(self, iteration: Iteration, num_micro_batches: int) -> None:
        """Note where the run stands."""
        self._iteration = iteration

    def __call__(self, parameters: Sequence[nn.Parameter]) -> Columns:
        """Nothing is known before the update."""
        return {}

    def timed(self, seconds: Mapping[str, float]) -> Columns:
        """All columns, but for the first time."""
        assert self._iteration is not None
        here, before = self._iteration, self._before
        self._before = here, dict(seconds)
        if before is None:
            return {}
        last, then = before
        values = {f"time/{part}_s": seconds[part] for part in ("data", "forward_backward", "update")}
        values["time/logging_s"] = (seconds["logging"] - then["logging"]) / (here.index - last.index)
        samples = here.samples_before - last.samples_before
        values["time/samples_per_s"] = samples / (seconds["iterations"] - then["iterations"])
        values["memory/peak_bytes"] = float(self._peak_bytes())
        # Not torch.tensor: its copy to a GPU waits.
        return {name: torch.full((), value, dtype=torch.float64, device=self._device) for name, value in values.items()}

    def _peak_bytes(self) -> int:
        if self._device.type == "cuda":
            return torch.cuda.max_memory_allocated(self._device)
        unit = 1 if sys.platform == "darwin" else 1024
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
