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
from mbtrain.core.noise_scale import Noise
from mbtrain.norm.groups import has_batch_norm
from mbtrain.plan.duration import Duration
from mbtrain.plan.noise_average import NoiseAverage, over
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
        self._averages = {
            f"{prefix}{row}": NoiseAverage(samples)
            for prefix, lens in zip(self._prefixes, self._lenses, strict=True)
            for row in _rows(lens.names)
        }

    @property
    def needs(self) -> tuple[str, ...]:
        """As its source at this iteration."""
        return ("iteration", "rows", *self._source.needs)

    def begin(self, iteration: Iteration, num_micro_batches: int) -> None:
        """Choose where the parts come from."""
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
        """Traces and squared gradients; none from a mini-batch in one piece, or of one sample."""
        columns: Columns = {}
        # zip: no sums where there was one part only
        for sums, lens, prefix in zip(self._source.sums, self._lenses, self._prefixes, strict=False):
            if lens.is_ready:
                noise = _with_total(sums.noise)
                for name, column in (("gradient_sq", noise.gradient_sq), ("trace", noise.trace)):
                    rows = zip(_rows(lens.names), column.unbind(), strict=True)
                    columns |= {f"{prefix}{row}{name}": one for row, one in rows}
        return columns

    def derived(self, row: Mapping[str, Any]) -> dict[str, float]:
        """The scale, and the averages with their interval, from what the row says."""
        found: dict[str, float] = {}
        for name, average in self._averages.items():
            if f"{name}trace" not in row:
                continue
            trace, gradient_sq = row[f"{name}trace"], row[f"{name}gradient_sq"]
            average.add(trace, gradient_sq, samples_seen=row["samples_seen"])
            low, high = average.interval()
            found |= {
                f"{name}scale": over(trace, gradient_sq),
                f"{name}averaged_scale": average.scale,
                f"{name}averaged_gradient_sq": average.gradient_sq,
                f"{name}averaged_trace": average.trace,
                f"{name}scale_low": low,
                f"{name}scale_high": high,
            }
        return found

    def rows_state(self) -> dict[str, Any]:
        """The averages."""
        return {name: one.state() for name, one in self._averages.items()}

    def load_rows(self, state: Mapping[str, Any]) -> None:
        """Go on with the averages."""
        for name, one in self._averages.items():
            one.load(state[name])


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
