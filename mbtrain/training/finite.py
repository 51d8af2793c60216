"""Numbers that are not finite: found without waiting for the device, never saved, and skipped where that is wanted."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from mbtrain.core.gradient import Gradient
from mbtrain.optim.ema import Ema


class NotFinite(Exception):
    """Some iteration up to `iteration` (counted from 1) brought `what`, NaN or infinite, into the training."""

    def __init__(self, what: str, iteration: int) -> None:
        super().__init__(f"{what} not finite by iteration {iteration:,}")
        self.what, self.iteration = what, iteration


def are_finite(tensors: Iterable[Tensor | None]) -> Tensor:
    """Whether every number is finite, 0-d, on the device of the first; nothing is waited for.

    >>> bool(are_finite([torch.tensor([1.0, 2.0]), torch.tensor([float("inf")])]))
    False
    """
    floats = [one for one in tensors if one is not None and one.is_floating_point() and one.numel()]
    if not floats:
        return torch.tensor(True)
    # The largest values: a sum could overflow where no number does.
    return torch.stack([one.to(floats[0].device) for one in _largest(floats)]).isfinite().all()


def _largest(floats: list[Tensor]) -> Sequence[Tensor]:
    """0-d numbers that are all finite where all of `floats` are."""
    if floats[0].is_cpu:
        # The norm takes nine times longer there.
        return [extreme for one in floats for extreme in torch.aminmax(one)]
    return torch._foreach_norm(floats, float("inf"))  # pyright: ignore[reportPrivateImportUsage]


def unbounded_buffers(model: nn.Module) -> frozenset[str]:
    """Buffers that hold an infinity from the start, such as an attention mask."""
    buffers = dict(model.named_buffers())
    return frozenset(name for name, one in buffers.items() if not bool(are_finite([one])))


def refuse_bad_state(checkpoint: Mapping[str, Any], *, unbounded: frozenset[str]) -> None:
    """Raise NotFinite where weights, buffers, optimizer or averaged weights of a checkpoint are not finite."""
    weights = checkpoint["state_dict"]
    parts = {
        "weights": [one for name, one in weights.items() if name.removeprefix("model.") not in unbounded],
        "optimizer state": checkpoint.get("optimizer_states", []),
        "averaged weights": checkpoint["mbtrain"]["ema"],
    }
    for what, values in parts.items():
        if not bool(are_finite(_tensors(values))):
            raise NotFinite(f"{what} are" if what.endswith("weights") else f"{what} is", _iterations(checkpoint))


def _iterations(checkpoint: Mapping[str, Any]) -> int:
    return checkpoint["mbtrain"]["iterations"]


def _tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, Mapping):
        for one in value.values():
            yield from _tensors(one)
    elif isinstance(value, list | tuple):
        for one in value:
            yield from _tensors(one)


class Gate:
    """`nonfinite=skip`: takes an update back, on the device, whose loss, gradient or result is not finite.

    `keep` before an iteration, `settle` after its update. Taken back are weights, buffers, averaged weights and the
    optimizer's tensors; one that the update has made new becomes 0, which is what every torch optimizer starts with.
    """

    def __init__(self, model: nn.Module, optimizer: torch.optim.Optimizer, ema: Ema | None) -> None:
        self._optimizer = optimizer
        self._fixed = [*model.parameters(), *model.buffers(), *([] if ema is None else ema.average)]
        self._unbounded = {id(one) for name, one in model.named_buffers() if name in unbounded_buffers(model)}
        self._before: dict[Any, Tensor] = {}

    @torch.no_grad()
    def keep(self) -> None:
        """Copy all that an update changes."""
        self._before = {key: one.clone() for key, one in self._changing()}

    @torch.no_grad()
    def settle(self, losses: Tensor, gradient: Gradient) -> Tensor:
        """Put back what was, unless all is finite; whether it is, 0-d, on the device."""
        after = list(self._changing())
        checked: Sequence[Tensor | None] = [one for _, one in after if id(one) not in self._unbounded]
        # The sum, as the row has it: it may overflow where no summand does.
        is_fine = are_finite([losses.sum(), *gradient, *checked])
        for key, one in after:
            before = self._before.get(key)
            # An optimizer may keep its step counter on the host: only then the host waits here.
            kept = torch.zeros_like(one) if before is None else before
            one.copy_(torch.where(is_fine.to(one.device), one, kept))
        return is_fine

    def _changing(self) -> Iterator[tuple[Any, Tensor]]:
        yield from enumerate(self._fixed)
        for parameter, state in self._optimizer.state.items():
            for name, value in state.items():
                if isinstance(value, Tensor):
                    yield (id(parameter), name), value
