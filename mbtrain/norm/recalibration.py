"""Precise batch-norm statistics: those of the weights in use, in place of running ones, which lag behind the weights.

Wu & Johnson, arXiv 2105.07576. The running statistics average over weights that are gone, and more so the fewer updates
an epoch has: batch sizes can only be compared without that lag.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from mbtrain.norm.groups import BnGroups, FrozenBatchNorm

# (inputs, sizes of its BN groups) of each micro-batch.
MicroBatches = Callable[[], Iterable[tuple[Any, tuple[int, ...]]]]


class Recalibration:
    """Measures mean and variance of what each batch-norm layer gets, on the same micro-batches each time.

    Batch norm normalises as in training meanwhile (the BN groups matter), all else is as in evaluation: no dropout.
    """

    def __init__(self, model: nn.Module, groups: BnGroups, micro_batches: MicroBatches) -> None:
        self._model, self._groups, self._micro_batches = model, groups, micro_batches
        self._layers = [one for one in model.modules() if _has_running_statistics(one)]

    @contextmanager
    def in_place(self, samples_seen: int) -> Iterator[None]:
        """The precise statistics in the model for the length of a block; the running ones come back bit for bit."""
        kept = [(buffer, buffer.clone()) for layer in self._layers for buffer in layer.buffers(recurse=False)]
        try:
            pools = self._measured(samples_seen)
            for buffer, value in kept:
                buffer.copy_(value)
            for layer, pool in pools.items():
                pool.put_into(layer)
            yield
        finally:
            for buffer, value in kept:
                buffer.copy_(value)

    @torch.no_grad()
    def _measured(self, samples_seen: int) -> dict[nn.Module, "Pool"]:
        """The statistics of every layer that the model reaches."""
        pools: dict[nn.Module, Pool] = {}

        def see(layer: nn.Module, given: tuple[Tensor, ...]) -> None:
            pools.setdefault(layer, Pool()).add(given[0])

        # Batch renorm compares with the running statistics from here.
        self._groups.begin(samples_seen)
        with ExitStack() as stack:
            stack.enter_context(_only_training(self._model, self._layers))
            for layer in self._layers:
                stack.callback(layer.register_forward_pre_hook(see).remove)
            for inputs, sizes in self._micro_batches():
                self._groups.sizes = sizes
                self._model(inputs)
        return pools


class Pool:
    """Exact mean and variance of all values a channel, batch by batch (law of total variance; Chan et al., 1979).

    >>> pool = Pool()
    >>> for values in ([1.0, 3.0], [5.0]):
    ...     pool.add(torch.tensor(values)[:, None])
    >>> pool.mean.tolist(), pool.variance.tolist()
    ([3.0], [4.0])
    """

    def __init__(self) -> None:
        self.count = 0
        self.mean = self._squares = torch.zeros(())

    def add(self, x: Tensor) -> None:
        """Take in [n, channels, ...]."""
        count = x.numel() // x.shape[1]
        values = x.to(torch.promote_types(x.dtype, torch.float32))
        variance, mean = (
            one.double() for one in torch.var_mean(values, [0, *range(2, x.dim())], correction=0)
        )  # [channels]
        total = self.count + count
        shift = mean - self.mean if self.count else mean
        self._squares = self._squares + variance * count + shift**2 * (self.count * count / total)
        self.mean = (self.mean if self.count else torch.zeros_like(mean)) + shift * (count / total)
        self.count = total

    @property
    def variance(self) -> Tensor:
        """The unbiased variance, which is what torch keeps as a running one; [channels], float64."""
        return self._squares / max(self.count - 1, 1)

    def put_into(self, layer: nn.Module) -> None:
        """Make them the layer's running statistics."""
        assert isinstance(layer, _BatchNorm) and layer.running_mean is not None and layer.running_var is not None
        layer.running_mean.copy_(self.mean)
        layer.running_var.copy_(self.variance)


def _has_running_statistics(module: nn.Module) -> bool:
    return (
        isinstance(module, _BatchNorm) and not isinstance(module, FrozenBatchNorm) and module.running_mean is not None
    )


@contextmanager
def _only_training(model: nn.Module, layers: Iterable[nn.Module]) -> Iterator[None]:
    """`layers` in training and all else in evaluation, for the length of a block."""
    before = [(module, module.training) for module in model.modules()]
    try:
        model.eval()
        for layer in layers:
            layer.train()
        yield
    finally:
        for module, was_training in before:
            module.training = was_training
