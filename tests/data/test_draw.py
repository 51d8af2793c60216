"""The draw that batch norm is recalibrated on, from memory and from a data set that is read."""

from typing import Any

import pytest
import torch

from mbtrain.assembly import assemble
from tests.composing import composed
from tests.conftest import QUIET

CNN = ["model=cnn", "model.channels=[4,8]", "batch.size=50", "batch_norm.group_size=8", "batch.micro_size=16"]


def micro_batches(*overrides: str) -> list[tuple[Any, tuple[int, ...]]]:
    parts = assemble(composed([*QUIET, *CNN, "batch_norm.recalibrate_samples=100", *overrides]), chosen={})
    return list(parts.recalibration._micro_batches())


def test_it_is_cut_into_the_bn_groups_of_the_run() -> None:
    assert [sizes for _, sizes in micro_batches()] == 2 * [(8, 8), (8, 8), (8, 8), (2,)]


def test_read_on_demand_it_holds_the_same_values() -> None:
    for (one, _), (other, _) in zip(micro_batches(), micro_batches("dataset.workers=0"), strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize("augment", ["[flip,crop]"])
def test_it_is_not_augmented(augment: str) -> None:
    for (one, _), (other, _) in zip(micro_batches(), micro_batches(f"dataset.augment={augment}"), strict=True):
        assert torch.equal(one, other)


def test_all_is_the_whole_training_set_in_whole_mini_batches() -> None:
    assert sum(len(x) for x, _ in micro_batches("batch_norm.recalibrate_samples=all")) == 1294 // 50 * 50
