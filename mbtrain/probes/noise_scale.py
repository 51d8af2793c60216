"""The gradient noise scale of the training's own mini-batches, per iteration and averaged, with an interval.

The formulas are those of mbtrain.core.noise_scale, at the weights before the update and before clipping. Where the
model has batch norm, a part is normalised by its own statistics: its size belongs to what is measured.
"""

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor, nn

from mbtrain.core.gradient import Gradient
from mbtrain.core.noise_scale import Averages, Noise
from mbtrain.norm.groups import has_batch_norm
from mbtrain.plan.duration import Duration
from mbtrain.plan.refused import Refused
from mbtrain.plan.run import Iteration, RunPlan
from mbtrain.probes.contract import Columns, Rehearsal
from mbtrain.probes.lens import Lens, norm_parameters
from mbtrain.probes.noise_sources import ClosedForm, MicroBatches, Parts, PerExample

SOURCES = ("auto", "micro_batches", "per_example", "parts")
LAYERS = ("all", "norm")


class NoiseScale:
    """Columns `noise/scale|gradient_sq|trace` of the mini-batch, `noise/averaged_*`, `noise/scale_low|high` (95 %).

    With groups also `noise/GROUP/...`, preconditioned `noise/preconditioned/...`; `scale` is in samples (in tokens
    where the loss weighs tokens).
    """

    def __init__(
        self,
        *,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        trained: Mapping[str, Tensor],
        plan: RunPlan,
        source: str = "auto",
        parts: int = 8,
        half_life: str = "1ep",
        layers: str = "all",
        group_by: str = "none",
        preconditioned: bool = False,
    ) -> None:
        _refuse_wrong(source=source, layers=layers, parts=parts)
        if preconditioned and not _is_adam(optimizer):
            raise Refused("probe.noise_scale.preconditioned=true: needs an optimizer of Adam's kind, such as adamw")
        kept = norm_parameters(model)
        is_kept = [layers == "all" or id(one) in kept for one in trained.values()]
        if not any(is_kept):
            raise Refused("probe.noise_scale.layers=norm: the model has no norm layer that is trained: take layers=all")

        def lens(**options: Any) -> Lens:
            return Lens(trained, group_by=group_by, optimizer=optimizer, is_kept=is_kept, **options)

        self._lenses = [lens(), *([lens(is_preconditioned=True)] if preconditioned else [])]
        self._prefixes = ("noise/", "noise/preconditioned/")[: len(self._lenses)]
        self._micro_batches = MicroBatches(self._lenses)
        self._otherwise = _otherwise(source, self._lenses, model, trained, parts)
        self._prefers_micro_batches = source in ("auto", "micro_batches")
        self._source: Any = self._micro_batches
        samples = float(plan.samples(Duration.parse(half_life)))
        device = self._lenses[0].parameters[0].device
        self._averages = [Averages(len(_rows(one.names)), half_life=samples, device=device) for one in self._lenses]
        self._samples_after = 0

    @property
    def needs(self) -> tuple[str, ...]:
        """As its source at this iteration."""
        return ("iteration", "memory", *self._source.needs)

    def begin(self, iteration: Iteration, num_micro_batches: int) -> None:
        """Choose where the parts come from."""
        self._samples_after = iteration.samples_after
        has_parts = self._prefers_micro_batches and num_micro_batches > 1
        self._source = self._micro_batches if has_parts else self._otherwise
        self._source.begin()
        for lens in self._lenses:
            lens.begin()

    def watching(self) -> AbstractContextManager[None]:
        """Around the training's passes."""
        return self._source.watching()

    def see_losses(self, values: Tensor, weights: Tensor | None) -> None:
        """Between forward and backward pass."""
        self._source.see_losses(values, weights)

    def see_micro_gradient(self, weight: float | Tensor, gradient: Gradient) -> None:
        """One part."""
        self._source.see_micro_gradient(weight, gradient)

    def see_gradient(self, weight: float | Tensor, gradient: Gradient) -> None:
        """The whole."""
        self._source.see_gradient(weight, gradient)

    def rehearse(self, rehearsal: Rehearsal) -> None:
        """Parts of its own."""
        self._source.rehearse(rehearsal)

    @torch.no_grad()
    def __call__(self, parameters: Sequence[nn.Parameter]) -> Columns:
        """The columns; none from a mini-batch in one piece, or of one sample."""
        columns: Columns = {}
        # zip: no sums where there was one part only
        for sums, lens, prefix, averages in zip(
            self._source.sums, self._lenses, self._prefixes, self._averages, strict=False
        ):
            if lens.is_ready:
                noise = _with_total(sums.noise)
                averages.add(noise, samples_seen=self._samples_after)
                columns |= _columns(noise, averages, _rows(lens.names), prefix)
        return columns

    def state(self) -> dict[str, Any]:
        """The averages."""
        return {prefix: one.state() for prefix, one in zip(self._prefixes, self._averages, strict=True)}

    def load(self, state: Mapping[str, Any]) -> None:
        """Go on with the averages."""
        for prefix, one in zip(self._prefixes, self._averages, strict=True):
            one.load(state[prefix])


def _refuse_wrong(*, source: str, layers: str, parts: int) -> None:
    for name, value, allowed in (("source", source, SOURCES), ("layers", layers, LAYERS)):
        if value not in allowed:
            raise Refused(f"probe.noise_scale.{name}={value}: there are {', '.join(allowed)}")
    if parts < 2:
        raise Refused(f"probe.noise_scale.parts={parts}: it takes at least 2 to compare")


def _is_adam(optimizer: torch.optim.Optimizer) -> bool:
    return all("betas" in group and "eps" in group for group in optimizer.param_groups)


def _otherwise(
    source: str, lenses: Sequence[Lens], model: nn.Module, trained: Mapping[str, Tensor], parts: int
) -> MicroBatches | Parts | PerExample | ClosedForm:
    """What is taken at an iteration whose micro-batches are not."""
    has_bn, is_plain = has_batch_norm(model), len(lenses) == 1
    has_closed_form = is_plain and not has_bn and ClosedForm.covers(model, lenses[0])
    if source == "micro_batches":
        return MicroBatches(lenses)
    if source == "parts" or (source == "auto" and not has_closed_form):
        return Parts(lenses, num_parts=parts)
    if has_bn:
        raise Refused(
            "probe.noise_scale.source=per_example: with batch norm a sample has no gradient of its own: "
            "take source=parts, or another batch_norm"
        )
    if not is_plain:
        raise Refused("probe.noise_scale.source=per_example: not with preconditioned=true: take source=parts")
    return ClosedForm(lenses, model, trained) if has_closed_form else PerExample(lenses, trained)


def _rows(names: Sequence[str]) -> list[str]:
    """The groups, and the total after them where there are several."""
    return [""] if len(names) == 1 else [*(f"{name}/" for name in names), ""]


def _with_total(noise: Noise) -> Noise:
    if noise.trace.numel() == 1:
        return noise
    return Noise(*(torch.cat([one, total[None]]) for one, total in zip(noise, noise.total, strict=True)))


def _columns(noise: Noise, averages: Averages, rows: Sequence[str], prefix: str) -> Columns:
    interval, averaged = averages.interval(), averages.noise
    values = {
        "scale": noise.scale,
        "gradient_sq": noise.gradient_sq,
        "trace": noise.trace,
        "averaged_scale": interval.scale,
        "averaged_gradient_sq": averaged.gradient_sq,
        "averaged_trace": averaged.trace,
        "scale_low": interval.low,
        "scale_high": interval.high,
    }
    return {
        f"{prefix}{row}{name}": one
        for name, column in values.items()
        for row, one in zip(rows, column.unbind(), strict=True)
    }
