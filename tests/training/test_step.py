"""An iteration a micro-batch at a time leaves what it leaves in one piece."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from mbtrain.data.augment import Augment
from mbtrain.data.loader import MiniBatch, places_of
from mbtrain.data.sources import MemorySource
from mbtrain.losses.cross_entropy import CrossEntropy
from mbtrain.norm.groups import BnGroups
from mbtrain.optim.written_out import rule_of
from mbtrain.plan.batch import MicroBatch
from mbtrain.plan.iteration import Iteration
from mbtrain.training.forward import Forward
from mbtrain.training.step import Step, StepByParts

CPU = torch.device("cpu")
EDGES = (0, 4, 8, 9)  # of the micro-batches


class Model(nn.Module):
    """With dropout, and a parameter that no loss reaches."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layers = nn.Sequential(nn.Flatten(), nn.Linear(16, 8), nn.Dropout(0.5), nn.Linear(8, 3))
        self.unreached = nn.Parameter(torch.ones(2))

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)


def mini_batches(augment: Augment | None) -> list[MiniBatch]:
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(27, 1, 4, 4, generator=generator, dtype=torch.float64)
    y = torch.randint(3, (27,), generator=generator)
    source = MemorySource(x, y, np.arange(27))
    cut = tuple(MicroBatch(start, stop) for start, stop in pairwise(EDGES))
    iteration = Iteration(0, 0, 0, EDGES[-1], 0, False, EDGES[-1])
    indices = torch.arange(27).split(EDGES[-1])
    return [MiniBatch(iteration, cut, places_of(cut, CPU), source.gather, one, augment, CPU) for one in indices]


def trained(by_parts: bool, loss: nn.Module, augment: Augment | None) -> tuple[Model, Sequence[Any]]:
    model = Model().double()
    optimizer = torch.optim.SGD(model.parameters(), 0.5, momentum=0.9, weight_decay=0.1)
    step = Step(Forward(model, loss, BnGroups()), list(model.parameters()), optimizer, 0.3)
    rule, lr = rule_of(optimizer, step.parameters), torch.tensor(0.5, dtype=torch.float64)
    batches = mini_batches(augment)
    parts = StepByParts(step, rule, batches[0], at_once=2)
    torch.manual_seed(2)
    left = [parts.iterate(one, lr) if by_parts else step.iterate(one, rule, lr) for one in batches]
    return model, left


@pytest.mark.parametrize("augment", [None, Augment(flip=True, crop=1, cutout=0, height=4, width=4, device=CPU)])
@pytest.mark.parametrize(
    "loss", [CrossEntropy(), CrossEntropy(class_weights=[1.0, 0.0, 3.0]), CrossEntropy(class_weights=[0.0] * 3)]
)
def test_by_parts_is_the_step_in_one_piece(loss: nn.Module, augment: Augment | None) -> None:
    (ours, left), (theirs, expected) = (trained(by_parts, loss, augment) for by_parts in (True, False))
    for one, other in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12)
    assert torch.equal(ours.unreached, torch.ones(2))
    for one, other in zip(left, expected, strict=True):
        assert float(one.weight) == float(other.weight)
        torch.testing.assert_close(
            (one.losses.sum(), one.norm), (other.losses.sum(), other.norm), rtol=1e-12, atol=1e-12
        )
        torch.testing.assert_close(list(one.pairs), list(other.pairs), rtol=1e-12, atol=1e-12)
