"""The replay after a number that was not finite: the same iterations again, each looked at before its update."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import orjson
import torch
from torch import Tensor, nn

from mbtrain.core.gradient import MeanGradient
from mbtrain.core.random import seed_iteration
from mbtrain.data.loader import MiniBatch
from mbtrain.log.files import replace
from mbtrain.plan.failed import Failed
from mbtrain.plan.run import Iteration
from mbtrain.training.checkpoint import newest
from mbtrain.training.finite import are_finite, unbounded_buffers
from mbtrain.training.forward import Forward

FILE = "nonfinite.json"
SHOWN = 8


class Inspector:
    """Stops the run before the first update that brings a number which is not finite, and says where it comes from.

    It looks until iteration `until`; a run that passes it (CUDA without trainer.deterministic=true) just goes on, where
    it `goes_on`: one whose iterations are compiled does not, because a replay is eager and leaves other bits.
    """

    def __init__(
        self,
        *,
        until: int,
        goes_on: bool,
        run_dir: Path,
        forward: Forward,
        optimizer: torch.optim.Optimizer,
        seed: int,
        ids_of: Callable[[Iteration], Sequence[int]],
    ) -> None:
        self._until, self._goes_on = until, goes_on
        self._run_dir, self._forward, self._model = run_dir, forward, forward.model
        self._optimizer, self._seed, self._ids_of = optimizer, seed, ids_of
        self._named = {name: one for name, one in self._model.named_parameters() if one.requires_grad}
        self._unbounded = unbounded_buffers(self._model)
        self._weights: list[Tensor] = []

    def see_gradient(self, mini_batch: MiniBatch, result: MeanGradient) -> None:
        """Before the update; raises Failed."""
        if mini_batch.iteration.index >= self._until:
            return
        layers = [n for n, one in zip(self._named, result.gradient, strict=True) if not bool(are_finite([one]))]
        if not bool(result.loss.isfinite()):
            raise self._failed("the loss", layers, mini_batch)
        if layers:
            raise self._failed("the gradient", layers, mini_batch)
        buffers = [
            n for n, one in self._model.named_buffers() if n not in self._unbounded and not bool(are_finite([one]))
        ]
        if buffers:
            raise self._failed("a running statistic", buffers, mini_batch)
        self._weights = [one.detach().clone() for one in self._named.values()]

    @torch.no_grad()
    def see_update(self, mini_batch: MiniBatch) -> None:
        """After the update, which is taken back where it overflowed; raises Failed."""
        if mini_batch.iteration.index >= self._until:
            return
        layers = [name for name, one in self._named.items() if not bool(are_finite([one, *self._state_of(one)]))]
        if layers:
            for one, before in zip(self._named.values(), self._weights, strict=True):
                one.copy_(before)
            raise self._failed("the update", layers, mini_batch)
        if mini_batch.iteration.index + 1 == self._until and not self._goes_on:
            raise Failed(
                f"numbers were not finite by iteration {self._until:,}, compiled, and are where the same iterations "
                "run eagerly: set trainer.engine=eager, or lower optimizer.lr"
            )

    def _state_of(self, parameter: Tensor) -> list[Tensor]:
        return [one for one in self._optimizer.state.get(parameter, {}).values() if isinstance(one, Tensor)]

    def _failed(self, what: str, layers: Sequence[str], mini_batch: MiniBatch) -> Failed:
        iteration, ids = mini_batch.iteration, list(self._ids_of(mini_batch.iteration))
        first, places = self._origin(mini_batch)
        saved = newest(self._run_dir / "checkpoints")
        found: dict[str, Any] = {
            "iteration": iteration.index + 1,
            "epoch": iteration.epoch,
            "what": what,
            "first_layer": first,
            "parameters": list(layers),
            "samples": ids,
            "samples_not_finite": [ids[place] for place in places],
            "checkpoint": saved[0].name if saved else None,
        }
        replace(self._run_dir / FILE, orjson.dumps(found, option=orjson.OPT_INDENT_2))
        return Failed(_told(found, self._run_dir))

    @torch.no_grad()
    def _origin(self, mini_batch: MiniBatch) -> tuple[str | None, list[int]]:
        """The first layer whose output is not finite, and the samples whose input or loss is not."""
        first: list[str] = []
        places: list[int] = []
        handles = [
            layer.register_forward_hook(_noting(name or "the model", first))
            for name, layer in self._model.named_modules()
            if not list(layer.children())
        ]
        try:
            seed_iteration(self._seed, mini_batch.iteration.index, mini_batch.device)
            for number, micro in enumerate(mini_batch.micro_batches()):
                values = self._forward(micro).values
                good = _finite_rows(values) & _finite_rows(micro.inputs)
                positions = mini_batch.positions(number)
                places += [positions[row] for row in torch.nonzero(~good).flatten().tolist()]
        finally:
            for handle in handles:
                handle.remove()
        return (first[0] if first else None), sorted(places)


def _noting(name: str, first: list[str]) -> Callable[..., None]:
    def note(layer: nn.Module, given: Any, output: Any) -> None:
        if not first and isinstance(output, Tensor) and not bool(are_finite([output])):
            first.append(name)

    return note


def _finite_rows(values: Any) -> Tensor:
    """Of a batch [n, ...]: which rows hold finite numbers only (all, where it is no tensor)."""
    if not isinstance(values, Tensor):
        return torch.tensor(True)
    return values.isfinite().flatten(1).all(1) if values.dim() > 1 else values.isfinite()


def _told(found: dict[str, Any], run_dir: Path) -> str:
    bad, where = found["samples_not_finite"], found["first_layer"]
    parts = [f"iteration {found['iteration']:,} (epoch {found['epoch'] + 1}): {found['what']} is not finite"]
    if where:
        parts.append(f"first in layer {where}")
    if found["parameters"]:
        parts.append(f"in {_some(found['parameters'])}")
    if bad and len(bad) < len(found["samples"]):
        parts.append(f"from samples {_some(bad)} of the training set")
    saved = found["checkpoint"]
    parts.append(f"last good checkpoint {saved}" if saved else "there is no checkpoint before it")
    return (
        f"{', '.join(parts)}; the mini-batch is kept in {run_dir / FILE}: lower optimizer.lr, set optimizer.clip_norm, "
        "mend the samples, or go on with nonfinite=skip"
    )


def _some(names: Sequence[Any]) -> str:
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(map(str, names[:SHOWN])) + more
