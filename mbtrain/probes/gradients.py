"""The gradient and the update: their sizes, whole and by layer, and how far the parts of a mini-batch agree."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from mbtrain.core.gradient import Gradient
from mbtrain.core.gram import agreement, gram
from mbtrain.core.noise_scale import squares
from mbtrain.plan.refused import Refused
from mbtrain.plan.run import Iteration
from mbtrain.probes.contract import Columns, Rehearsal
from mbtrain.probes.lens import layer_of


class Gradients:
    """Columns `gradient/norm` (as the update uses it), `update/ratio` (|change| / |weights|), both also `/LAYER`, and
    `gradient/diversity|cosine|norm_test|inner_product_test` from the parts (mbtrain.core.gram), before clipping.

    The parts' gradients are held until the iteration ends: as many copies of the weights as there are parts.
    """

    def __init__(self, *, trained: Mapping[str, Tensor], parts: int | None = None, by_layer: bool = True) -> None:
        if parts is not None and parts < 2:
            raise Refused(f"probe.gradients.parts={parts}: it takes at least 2 to compare, null for none")
        self._num_parts, self._by_layer = parts, by_layer
        layers = [layer_of(name) for name in trained]
        self._layers = sorted(set(layers), key=layers.index)
        self._like = torch.zeros((), dtype=torch.float64, device=next(iter(trained.values())).device)
        self._index = torch.tensor([self._layers.index(one) for one in layers], device=self._like.device)
        self._shapes = [one.shape for one in trained.values()]
        self.needs: tuple[str, ...] = ("iteration", "update")
        self._parts: list[tuple[float | Tensor, Tensor]] = []
        self._before: list[Tensor] = []

    def begin(self, iteration: Iteration, num_micro_batches: int) -> None:
        """Choose where the parts come from."""
        self._parts = []
        own = ("rehearsal",) if self._num_parts is not None else ()
        self.needs = ("iteration", "update", *(("micro_gradients",) if num_micro_batches > 1 else own))

    def see_micro_gradient(self, weight: float | Tensor, gradient: Gradient) -> None:
        """Keep one part's."""
        pairs = zip(gradient, self._shapes, strict=True)
        flat = [self._like.new_zeros(shape.numel()) if one is None else one.flatten() for one, shape in pairs]
        self._parts.append((weight, torch.cat(flat)))

    def rehearse(self, rehearsal: Rehearsal) -> None:
        """Parts of its own."""
        assert self._num_parts is not None
        rehearsal.mean_gradient(-(-rehearsal.num_samples // self._num_parts), observers=[self.see_micro_gradient])

    @torch.no_grad()
    def __call__(self, parameters: Sequence[nn.Parameter]) -> Columns:
        """What is known before the update."""
        columns = self._norms("gradient/norm", squares([one.grad for one in parameters], self._like))
        if len(self._parts) > 1:
            weights = torch.stack([torch.as_tensor(weight, device=self._like.device) for weight, _ in self._parts])
            found = agreement(gram(torch.stack([part for _, part in self._parts])), weights)
            columns |= {f"gradient/{name}": one for name, one in found._asdict().items()}
        self._parts = []
        self._before = [one.detach().clone() for one in parameters]
        return columns

    @torch.no_grad()
    def after_update(self, rehearsal: Rehearsal) -> Columns:
        """How far the weights went."""
        pairs = zip(rehearsal.parameters, self._before, strict=True)
        change, size = (squares(one, self._like) for one in ([a - b for a, b in pairs], self._before))
        self._before = []
        columns = {"update/ratio": (change.sum() / size.sum()).sqrt()}
        if self._by_layer:
            ratios = (self._sums(change) / self._sums(size)).sqrt().unbind()
            columns |= {f"update/ratio/{name}": one for name, one in zip(self._layers, ratios, strict=True)}
        return columns

    def _norms(self, name: str, square: Tensor) -> Columns:
        columns = {name: square.sum().sqrt()}
        if self._by_layer:
            each = self._sums(square).sqrt().unbind()
            columns |= {f"{name}/{layer}": one for layer, one in zip(self._layers, each, strict=True)}
        return columns

    def _sums(self, values: Tensor) -> Tensor:
        return values.new_zeros(len(self._layers)).index_add(0, self._index, values)
