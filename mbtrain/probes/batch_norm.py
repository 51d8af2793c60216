"""The noise of batch norm: how far the statistics of a BN group lie from the running ones, layer by layer."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from mbtrain.norm.groups import FrozenBatchNorm, GroupBatchNorm
from mbtrain.norm.recalibration import Pool
from mbtrain.plan.batch import num_equal
from mbtrain.probes.contract import Columns, Rehearsal
from mbtrain.probes.samples import TrainingSet, fixed_parts


class BatchNorm:
    """`bn/<layer>/...`, means over channels and over the mini-batch's BN groups (by their sizes):

        mean_shift        |mu_group - mu_running| / sigma_running
        deviation_ratio   sigma_group / sigma_running
        deviation_shift   |sigma_group / sigma_running - 1|

    with the layer's eps in every variance and the running statistics of before the iteration. Both shifts fall as
    1 / sqrt(group size); `bn/mean_shift` and so on are means over the layers. How far the running statistics lie from
    precise ones, pooled over `precise_size` fixed training samples that go through the model in BN groups of the same
    size (0 leaves it out), is told by

        running_mean_error        |mu_running - mu| / sigma
        running_deviation_ratio   sigma_running / sigma

    Frozen batch norm has no noise and no columns.
    """

    def __init__(
        self, *, model: nn.Module, train: TrainingSet, group_size: int | None, precise_size: int = 1024
    ) -> None:
        self._layers = _watched(model)
        self.needs, self._parts = ("layers",), []
        if self._layers and group_size is not None and precise_size:
            self.needs = ("layers", "rehearsal")
            # Whole groups of one size. Read now: an iteration touches no file.
            num_samples = max(1, min(precise_size, len(train)) // group_size) * group_size
            self._parts = fixed_parts(train, num_samples=num_samples, part_size=group_size)
        self._shifts: dict[str, _Shifts] = {}
        self._columns: Columns = {}

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Look at what goes into the layers."""
        self._shifts = {name: _Shifts(layer) for name, layer in self._layers.items()}
        with _hooked(self._layers, self._shifts):
            yield

    def see_losses(self, values: Tensor, weights: Tensor | None) -> None:
        """Not asked for."""

    @torch.no_grad()
    def rehearse(self, rehearsal: Rehearsal) -> None:
        """Pool statistics over fixed samples at these weights."""
        running = {name: _running(layer) for name, layer in self._layers.items()}
        pools = {name: Pool() for name in self._layers}
        with _hooked(self._layers, {name: _pooling(pool) for name, pool in pools.items()}):
            for part in self._parts:
                rehearsal.losses(part)
        for name, (mean, variance) in running.items():
            pool = pools[name]
            true_mean, true_variance = pool.mean, pool.variance * (pool.count - 1) / pool.count
            deviation = (true_variance + self._layers[name].eps).sqrt()
            self._columns[f"bn/{name}/running_mean_error"] = ((mean - true_mean).abs() / deviation).mean()
            ratio = (variance + self._layers[name].eps).sqrt() / deviation
            self._columns[f"bn/{name}/running_deviation_ratio"] = ratio.mean()

    def __call__(self, parameters: Sequence[nn.Parameter]) -> Columns:
        """The columns of all layers, and their means."""
        columns, self._columns = self._columns, {}
        found = [one.means() for one in self._shifts.values()]
        for name, values in zip(self._shifts, found, strict=True):
            columns |= {f"bn/{name}/{kind}": value for kind, value in zip(_Shifts.KINDS, values, strict=True)}
        if found:
            columns |= {
                f"bn/{kind}": value for kind, value in zip(_Shifts.KINDS, torch.stack(found).mean(0), strict=True)
            }
        return columns


class _Shifts:
    """A layer's hook: sums over BN groups, weighted by their sizes."""

    KINDS = ("mean_shift", "deviation_ratio", "deviation_shift")

    def __init__(self, layer: GroupBatchNorm) -> None:
        mean, variance = _running(layer)
        self._mean, self._deviation = mean, (variance + layer.eps).sqrt()
        self._sums: Tensor | float = 0.0
        self._num_samples = 0

    @torch.no_grad()
    def __call__(self, layer: GroupBatchNorm, inputs: tuple[Tensor]) -> None:
        sizes = _sizes(layer, inputs[0])
        means, variances = group_statistics(inputs[0].to(self._mean.dtype), sizes)
        ratio = (variances + layer.eps).sqrt() / self._deviation
        shift = (means - self._mean).abs() / self._deviation
        table = torch.stack([shift, ratio, (ratio - 1).abs()]).mean(2)  # [kinds, groups]
        k = num_equal(sizes)
        self._sums = self._sums + table[:, :k].sum(1) * sizes[0] + table[:, k:].sum(1) * sizes[-1]
        self._num_samples += sum(sizes)

    def means(self) -> Tensor:
        """[kinds]."""
        assert isinstance(self._sums, Tensor), "every layer is met in a pass"
        return self._sums / self._num_samples


def _pooling(pool: Pool) -> Any:
    """A layer's hook: takes in what goes into it."""

    def see(layer: nn.Module, inputs: tuple[Tensor]) -> None:
        pool.add(inputs[0].double())

    return see


def group_statistics(x: Tensor, sizes: Sequence[int]) -> tuple[Tensor, Tensor]:
    """(means, biased variances), [groups, channels] each, of `x` [n, channels, ...] whose equal groups are interleaved.

    >>> group_statistics(torch.tensor([[1.0], [5.0], [3.0], [9.0]]), (2, 2))[0].tolist()
    [[2.0], [7.0]]
    """
    k, channels = num_equal(tuple(sizes)), x.shape[1]
    equal = k * sizes[0]
    # Sample i of group j stands at i * k + j.
    variances, means = torch.var_mean(x[:equal].reshape(sizes[0], k, channels, -1), dim=(0, 3), correction=0)
    if equal < len(x):
        variance, mean = torch.var_mean(x[equal:].reshape(len(x) - equal, 1, channels, -1), dim=(0, 3), correction=0)
        variances, means = torch.cat([variances, variance]), torch.cat([means, mean])
    return means, variances


def _watched(model: nn.Module) -> dict[str, GroupBatchNorm]:
    """The layers with batch statistics and running ones, by name."""
    found = {name: layer for name, layer in model.named_modules() if isinstance(layer, GroupBatchNorm)}
    return {
        name: layer
        for name, layer in found.items()
        if layer.track_running_stats and not isinstance(layer, FrozenBatchNorm)
    }


def _sizes(layer: GroupBatchNorm, x: Tensor) -> tuple[int, ...]:
    sizes = layer.groups.sizes
    return sizes if len(sizes) > 1 else (len(x),)


def _running(layer: GroupBatchNorm) -> tuple[Tensor, Tensor]:
    """Copies of a layer's running mean and variance."""
    assert layer.running_mean is not None and layer.running_var is not None
    return layer.running_mean.clone(), layer.running_var.clone()


@contextmanager
def _hooked(layers: Mapping[str, nn.Module], hooks: Mapping[str, Any]) -> Iterator[None]:
    with ExitStack() as stack:
        for name, layer in layers.items():
            stack.callback(layer.register_forward_pre_hook(hooks[name]).remove)
        yield
