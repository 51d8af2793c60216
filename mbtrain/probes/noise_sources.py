"""Where the parts of a mini-batch come from whose gradients are compared: four ways to the same sums.

Each is given `begin()`, then what its `needs` ask for, and gives the sums as an Anova.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import grad, vmap
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._pytree import tree_map

from mbtrain.core.gradient import Gradient
from mbtrain.core.noise_scale import Anova
from mbtrain.core.per_example import has_closed_form, layer_squares
from mbtrain.plan.refused import Refused
from mbtrain.probes.contract import Rehearsal
from mbtrain.probes.lens import Lens

# Numbers in the per-example gradients that are held at once.
HELD = 1 << 25


class MicroBatches:
    """The micro-batches of the training itself; a mini-batch in one piece says nothing."""

    needs: tuple[str, ...] = ("micro_gradients", "gradient")

    def __init__(self, lenses: Sequence[Lens]) -> None:
        self._lenses = lenses
        self.begin()

    def begin(self) -> None:
        """Forget the mini-batch before."""
        self._weights: list[float | Tensor] = []
        self._norms: list[list[Tensor]] = [[] for _ in self._lenses]
        self.sums: list[Anova] = []

    def see_micro_gradient(self, weight: float | Tensor, gradient: Gradient) -> None:
        """Keep the norms |g_j|: all that is done once a micro-batch."""
        self._weights.append(weight)
        for lens, norms in zip(self._lenses, self._norms, strict=True):
            norms.append(lens.norms(gradient))

    def see_gradient(self, weight: float | Tensor, gradient: Gradient) -> None:
        """Add up W_j |g_j|^2, and compare with the whole."""
        if len(self._weights) < 2:
            return
        for lens, norms in zip(self._lenses, self._norms, strict=True):
            squares = torch.stack(norms).double().square()  # [parts, parameters]
            weights = torch.stack([torch.as_tensor(one) for one in self._weights])
            total = weights.to(squares) @ squares
            self.sums.append(Anova(lens.sums(total), lens.see(gradient), weight, len(norms)))


class Parts(MicroBatches):
    """Own passes over the mini-batch in `num_parts` parts: as the training's micro-batches would be."""

    needs = ("rehearsal",)

    def __init__(self, lenses: Sequence[Lens], *, num_parts: int) -> None:
        super().__init__(lenses)
        self._num_parts_wanted = num_parts

    def rehearse(self, rehearsal: Rehearsal) -> None:
        """Go through the parts."""
        size = -(-rehearsal.num_samples // self._num_parts_wanted)
        result = rehearsal.mean_gradient(size, observers=[self.see_micro_gradient])
        self.see_gradient(result.weight, result.gradient)


class PerExample:
    """Own passes that make the gradient of every sample (torch.func.vmap), a few at a time."""

    needs = ("rehearsal",)

    def __init__(self, lenses: Sequence[Lens], trained: Mapping[str, Tensor]) -> None:
        self._lenses, self._trained = lenses, trained
        self.begin()

    def begin(self) -> None:
        """Forget the mini-batch before."""
        self.sums: list[Anova] = []

    def rehearse(self, rehearsal: Rehearsal) -> None:
        """Add up W_i |g_i|^2 over all samples."""
        weights = {name: one.detach() for name, one in self._trained.items()}
        size = max(1, HELD // sum(one.numel() for one in weights.values()))
        parts: list[Sums] = []
        weight: float | Tensor = 0.0
        totals: list[Tensor] = []
        for part in rehearsal.micro_batches(size):

            def one_loss(weights: dict[str, Tensor], inputs: Any, target: Tensor, part: Any = part) -> Any:
                sample = part._replace(inputs=_alone(inputs), target=target[None], groups=())
                values, shares = rehearsal.losses(sample, weights)
                return values.sum(), torch.ones_like(values).sum() if shares is None else shares.sum()

            each = vmap(grad(one_loss, has_aux=True), in_dims=(None, 0, 0), randomness="different")
            # The attention kernels that are faster have no batching rule.
            with sdpa_kernel(SDPBackend.MATH):
                gradients, count = each(weights, part.inputs, part.target)
            parts.append(_sums(torch.stack([one.flatten(1).square().sum(1) for one in gradients.values()]), count))
            sums = [one.sum(0) for one in gradients.values()]
            totals = sums if not totals else [a + b for a, b in zip(totals, sums, strict=True)]
            weight = weight + count.sum(dtype=torch.float64)
        mean: list[Tensor | None] = [one / weight for one in totals]
        self.sums = [_anova(lens, parts, weight, mean) for lens in self._lenses]


class ClosedForm:
    """Hooks in the training's own passes: squared norms without any gradient of a sample (linear, layer norm)."""

    needs = ("layers", "gradient")

    def __init__(self, lenses: Sequence[Lens], model: nn.Module, trained: Mapping[str, Tensor]) -> None:
        self._lenses, self._names = lenses, {name: place for place, name in enumerate(trained)}
        seen = {place for lens in lenses for place in lens.places}
        known = [(layer, name, self._places(name)) for name, layer in model.named_modules() if has_closed_form(layer)]
        self._layers = [one for one in known if seen & set(one[2])]
        self.begin()

    @staticmethod
    def covers(model: nn.Module, lens: Lens) -> bool:
        """Whether each parameter that counts stands in one layer of a known kind, alone."""
        owners: dict[int, list[nn.Module]] = {}
        for layer in model.modules():
            for one in layer.parameters(recurse=False):
                owners.setdefault(id(one), []).append(layer)
        found = [owners.get(id(one), []) for one in lens.parameters]
        return all(len(layers) == 1 and has_closed_form(layers[0]) for layers in found)

    def begin(self) -> None:
        """Forget the mini-batch before."""
        self.sums: list[Anova] = []
        self._squares: list[dict[int, Tensor]] = []
        self._weights: list[float | Tensor] = []
        self._slopes: list[Tensor] = []

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Look at what goes into the layers and at the gradient that comes back."""
        handles = [layer.register_forward_hook(self._hook(name, places)) for layer, name, places in self._layers]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def see_losses(self, values: Tensor, weights: Tensor | None) -> None:
        """Note the samples' weights, and what the loss is multiplied by before its gradient is taken."""
        self._squares.append({})
        alike = values.numel() / len(values)
        self._weights.append(alike if weights is None else weights.detach().reshape(len(weights), -1).sum(1))
        values.register_hook(self._slopes.append)

    def see_gradient(self, weight: float | Tensor, gradient: Gradient) -> None:
        """Compare with the whole."""
        parts = [self._sums_of(*part) for part in zip(self._squares, self._weights, self._slopes, strict=True)]
        self.sums = [_anova(lens, parts, weight, gradient) for lens in self._lenses]

    def _sums_of(self, found: Mapping[int, Tensor], weights: float | Tensor, slope: Tensor) -> Sums:
        """Of one micro-batch."""
        every = [found[place] if place in found else slope.new_zeros(len(slope)) for place in self._names.values()]
        # The same for all of its samples: the gradients that were seen are so many times theirs.
        factor = slope[(0,) * slope.dim()].double()
        by_parameter, num_parts = _sums(torch.stack(every), weights)
        return by_parameter / factor.square(), num_parts

    def _places(self, name: str) -> list[int | None]:
        """Of a layer's weight and bias among the parameters that are trained."""
        return [self._names.get(f"{name}.{kind}" if name else kind) for kind in ("weight", "bias")]

    def _hook(self, name: str, places: Sequence[int | None]) -> Any:
        def see(layer: nn.Module, given: tuple[Tensor, ...], output: Tensor) -> None:
            if output.requires_grad:
                output.register_hook(lambda slope: self._see(name, places, layer_squares(layer, given[0], slope)))

        return see

    def _see(self, name: str, places: Sequence[int | None], squares: Sequence[Tensor]) -> None:
        found = self._squares[-1]
        for place, square in zip(places, squares, strict=False):
            if place is None:
                continue
            if place in found:
                raise Refused(f"probe.noise_scale.source=per_example: layer {name} is used twice: take source=parts")
            found[place] = square


# sum_i W_i |g_i|^2 [parameters], float64, over some samples, and how many of them there are.
Sums = tuple[Tensor, "int | Tensor"]


def _sums(squares: Tensor, weights: float | Tensor) -> Sums:
    """From |W_i g_i|^2 [parameters, n] and W_i, [n] or the same for all; a sample without weight is no part."""
    if isinstance(weights, Tensor):
        is_part = weights > 0
        return squares.double() @ torch.where(is_part, 1 / weights.double(), 0.0), is_part.sum()
    return squares.sum(1, dtype=torch.float64) / weights, squares.shape[1]


def _anova(lens: Lens, parts: Sequence[Sums], weight: float | Tensor, mean: Gradient) -> Anova:
    by_parameter, num_parts = parts[0]
    for more, num_more in parts[1:]:
        by_parameter, num_parts = by_parameter + more, num_parts + num_more
    return Anova(lens.sums(lens.kept(by_parameter)), lens.see(mean), weight, num_parts)


def _alone(inputs: Any) -> Any:
    """A sample as a batch of one."""
    return tree_map(lambda one: one[None], inputs)
