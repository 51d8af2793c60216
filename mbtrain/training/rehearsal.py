"""A mini-batch gone through again for a probe: own passes, and everything they change put back."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import accumulate, pairwise

import torch
from torch import Tensor, nn

from mbtrain.core.gradient import MeanGradient, Observer, mean_gradient
from mbtrain.core.random import seed_iteration
from mbtrain.data.loader import Micro, MiniBatch
from mbtrain.norm.groups import has_batch_norm
from mbtrain.plan.batch import MicroBatch, bn_groups
from mbtrain.training.forward import Forward
from mbtrain.training.kept import KeptBuffers


class Rehearsal:
    """The Rehearsal of mbtrain.probes.contract: `close` puts back what its passes changed."""

    def __init__(
        self,
        mini_batch: MiniBatch,
        forward: Forward,
        parameters: Sequence[nn.Parameter],
        *,
        seed: int,
    ) -> None:
        self.model, self.parameters = forward.model, parameters
        self.num_samples = mini_batch.iteration.size
        self._mini_batch, self._forward, self._seed = mini_batch, forward, seed
        self._put_back: list[Callable[[], object]] = []
        self._buffers: KeptBuffers | None = None
        self._keep_generators()
        self._keep_modes()

    def micro_batches(self, size: int | None = None) -> Iterator[Micro]:
        """The mini-batch in parts of at most `size` samples; None: the training's own cut."""
        self._keep_buffers()
        seed_iteration(self._seed, self._mini_batch.iteration.index, self._mini_batch.device)
        return self._cut(size).micro_batches()

    def losses(self, part: Micro, weights: Mapping[str, Tensor] | None = None) -> tuple[Tensor, Tensor | None]:
        """(values, weights or None) of a part's samples."""
        self._keep_buffers()
        _, values, shares = self._forward(part, weights)
        return values, shares

    def mean_gradient(self, size: int | None = None, *, observers: Sequence[Observer] = ()) -> MeanGradient:
        """Loss, mean gradient and weight of the mini-batch."""
        return mean_gradient(
            self.micro_batches(size),
            self.losses,
            self.parameters,
            num_micro_batches=self._cut(size).num_micro_batches,
            observers=observers,
        )

    @torch.no_grad()
    def close(self) -> None:
        """Put back buffers, random generators and modes, where there was a pass."""
        while self._put_back:
            self._put_back.pop()()

    def _cut(self, size: int | None) -> MiniBatch:
        if size is None:
            return self._mini_batch
        total = self.num_samples
        if not has_batch_norm(self.model):
            return self._mini_batch.cut_into([MicroBatch(at, min(at + size, total)) for at in range(0, total, size)])
        # Each part is a BN group, and one of a single sample would have no variance.
        edges = [0, *accumulate(bn_groups(total, max(size, 2)))]
        return self._mini_batch.cut_into([MicroBatch(start, end) for start, end in pairwise(edges)])

    def _keep_generators(self) -> None:
        device = self._mini_batch.device
        on_device = [torch.cuda.default_generators[device.index or 0]] if device.type == "cuda" else []
        kept = [(one, one.get_state()) for one in (torch.default_generator, *on_device)]
        self._put_back.append(lambda: [one.set_state(state) for one, state in kept])

    def _keep_modes(self) -> None:
        modes = [(layer, layer.training) for layer in self.model.modules()]
        self._put_back.append(lambda: [setattr(layer, "training", kept) for layer, kept in modes])

    def _keep_buffers(self) -> None:
        """Before the first pass: they cost a copy."""
        if self._buffers is None:
            self._buffers = KeptBuffers(self.model)
            self._buffers.keep()
            self._put_back.append(self._buffers.put_back)
