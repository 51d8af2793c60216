"""probe=batch_norm: shifts against numpy, their law in the group size, running against precise statistics."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from mbtrain.norm.groups import BnGroups, GroupBatchNorm
from mbtrain.plan.batch import bn_groups, interleaved
from mbtrain.probes.batch_norm import BatchNorm, group_statistics
from tests.conftest import rows

CNN = ["model=cnn", "model.channels=[4,8]", "probe=batch_norm", "probe.batch_norm.every=1it"]


class NoSamples:
    """A training set that nobody reads."""

    def __len__(self) -> int:
        return 0

    def read(self, positions: Any) -> Any:
        raise AssertionError


@pytest.mark.parametrize("shape", [(12, 3), (11, 3, 4, 5), (9, 3, 4)], ids=str)
@pytest.mark.parametrize("group_size", [2, 4, 12])
def test_group_statistics_are_numpy_s_of_each_group(shape: tuple[int, ...], group_size: int) -> None:
    x = torch.randn(*shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    sizes = bn_groups(len(x), group_size)
    order = interleaved(sizes)
    means, variances = group_statistics(x if order is None else x[order], sizes)
    edges = np.cumsum(sizes)[:-1]
    axes = (0, *range(2, len(shape)))
    groups = np.split(x.numpy(), edges)
    np.testing.assert_allclose(means, [one.mean(axes) for one in groups], rtol=1e-12)
    np.testing.assert_allclose(variances, [one.var(axes) for one in groups], rtol=1e-12)


def test_noise_falls_as_the_root_of_the_group_size_at_fixed_weights_with_precise_statistics() -> None:
    torch.manual_seed(0)
    groups = BnGroups()
    layer = GroupBatchNorm(nn.BatchNorm2d(16), groups, momentum=0.0)
    model = nn.Sequential(nn.Conv2d(3, 16, 3), layer)
    images = nn.functional.avg_pool2d(torch.randn(4096, 3, 12, 12), 3, stride=1)  # neighbours alike, as in images
    with torch.no_grad():
        inside = model[0](images)
        layer.running_mean = inside.mean((0, 2, 3))
        layer.running_var = inside.var((0, 2, 3))
    sizes = np.array([2, 4, 8, 16, 32, 64, 128])
    found = np.array([_shifts(model, groups, images, int(size)) for size in sizes])
    for values in found.T:
        slope = np.polyfit(np.log(sizes), np.log(values), 1)[0]
        assert slope == pytest.approx(-0.5, abs=0.05)


def _shifts(model: nn.Module, groups: BnGroups, images: torch.Tensor, size: int) -> list[float]:
    probe = BatchNorm(model=model, train=NoSamples(), group_size=size, precise_size=0)
    groups.sizes = bn_groups(len(images), size)
    with probe.watching(), torch.no_grad():
        model(images[interleaved(groups.sizes)])
    columns = probe([])
    return [float(columns[f"bn/1/{kind}"]) for kind in ("mean_shift", "deviation_shift")]


def test_columns_do_not_depend_on_the_micro_batches(train: Callable[..., Any]) -> None:
    run = [*CNN, "duration=3it", "batch.size=30", "batch_norm.group_size=8", "trainer.precision=64-true"]
    whole, parts = (rows(train(*run, *extra).run_dir) for extra in ([], ["batch.micro_size=8"]))
    for first, second in zip(whole, parts, strict=True):
        names = [name for name in first if name.startswith("bn/")]
        assert len(names) == 2 * 5 + 3
        assert [second[name] for name in names] == pytest.approx([first[name] for name in names], rel=1e-9)


def test_running_statistics_that_follow_at_once_are_nearly_the_precise_ones(train: Callable[..., Any]) -> None:
    run = [*CNN, "duration=60it", "optimizer.lr=0", "batch.size=256", "probe.batch_norm.every=30it"]
    table = [row for row in rows(train(*run, "batch_norm.momentum=0.3").run_dir) if "bn/mean_shift" in row]
    for row in table:
        assert row["bn/layers.1/running_mean_error"] < 0.05
        assert row["bn/layers.1/running_deviation_ratio"] == pytest.approx(1, abs=0.03)
    still = rows(train(*run, "duration=30it", "batch_norm.momentum=0.001").run_dir)[-1]
    assert abs(still["bn/layers.1/running_deviation_ratio"] - 1) > 0.5


@pytest.mark.parametrize(
    "choice", [["model=mlp"], ["model=cnn", "batch_norm=frozen"], ["model=cnn", "batch_norm=none"]]
)
def test_without_noise_there_are_no_columns(train: Callable[..., Any], choice: list[str]) -> None:
    (row,) = rows(train("duration=1it", "probe=batch_norm", "probe.batch_norm.every=1it", *choice).run_dir)
    assert not [name for name in row if name.startswith("bn/")]
