"""What `batch_schedule=noise_scale` goes by: its own passes over the mini-batch in equal parts."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from mbtrain.plan.proportional import NoiseScale
from mbtrain.plan.run import Iteration
from mbtrain.probes.contract import Columns, Rehearsal
from mbtrain.probes.lens import Lens
from mbtrain.probes.noise_sources import Parts


class ScheduleNoise:
    """Columns `batch_schedule/trace|gradient_sq`: whatever the micro-batches, the parts are the same."""

    needs = ("iteration", "rehearsal")

    def __init__(
        self, schedule: NoiseScale, *, trained: Mapping[str, Tensor], optimizer: torch.optim.Optimizer
    ) -> None:
        self._lens = Lens(trained, group_by="none", optimizer=optimizer, is_kept=[True] * len(trained))
        self._source = Parts([self._lens], num_parts=schedule.parts)

    def begin(self, iteration: Iteration, num_micro_batches: int) -> None:
        """Forget the mini-batch before."""
        self._source.begin()
        self._lens.begin()

    def rehearse(self, rehearsal: Rehearsal) -> None:
        """Go through the parts."""
        self._source.rehearse(rehearsal)

    @torch.no_grad()
    def __call__(self, parameters: Sequence[nn.Parameter]) -> Columns:
        """The estimates; none from a tail of one part."""
        columns: Columns = {}
        for sums in self._source.sums:
            trace, gradient_sq = NoiseScale.reads
            columns = {trace: sums.noise.trace[0], gradient_sq: sums.noise.gradient_sq[0]}
        return columns
