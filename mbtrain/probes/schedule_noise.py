"""The noise scale that `batch_schedule=noise_scale` goes by: its own passes over the mini-batch in equal parts."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from mbtrain.core.noise_scale import Averages
from mbtrain.plan.proportional import NoiseScale
from mbtrain.plan.run import Iteration, RunPlan
from mbtrain.probes.contract import Columns, Rehearsal
from mbtrain.probes.lens import Lens
from mbtrain.probes.noise_sources import Parts


class ScheduleNoise:
    """Column `batch_schedule/noise_scale`, averaged: whatever the micro-batches, the parts are the same."""

    needs = ("iteration", "rehearsal", "memory")

    def __init__(
        self, schedule: NoiseScale, *, trained: Mapping[str, Tensor], plan: RunPlan, optimizer: torch.optim.Optimizer
    ) -> None:
        lens = Lens(trained, group_by="none", optimizer=optimizer, is_kept=[True] * len(trained))
        self._lens, self._source = lens, Parts([lens], num_parts=schedule.parts)
        half_life = float(plan.samples(schedule.half_life))
        self._averages = Averages(1, half_life=half_life, device=lens.parameters[0].device)
        self._samples_after = 0

    def begin(self, iteration: Iteration, num_micro_batches: int) -> None:
        """Forget the mini-batch before."""
        self._samples_after = iteration.samples_after
        self._source.begin()
        self._lens.begin()

    def rehearse(self, rehearsal: Rehearsal) -> None:
        """Go through the parts."""
        self._source.rehearse(rehearsal)

    @torch.no_grad()
    def __call__(self, parameters: Sequence[nn.Parameter]) -> Columns:
        """The average; none from a tail of one part."""
        for sums in self._source.sums:
            self._averages.add(sums.noise, samples_seen=self._samples_after)
        (scale,) = self._averages.noise.scale.unbind()
        return {NoiseScale.reads: scale} if self._source.sums else {}

    def state(self) -> dict[str, Any]:
        """The averages."""
        return self._averages.state()

    def load(self, state: Mapping[str, Any]) -> None:
        """Go on with the averages."""
        self._averages.load(state)
