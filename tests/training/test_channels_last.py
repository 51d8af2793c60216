"""trainer.channels_last: another layout in memory, the same training."""

from collections.abc import Callable
from typing import Any

import pytest
import torch

from mbtrain.assembly import assemble
from mbtrain.training.place import are_one_after_the_other
from tests.composing import composed
from tests.conftest import QUIET, final_weights, relative_difference

ON = "trainer.channels_last=true"
CNN = ["model=cnn", "model.channels=[4,8]", "optimizer.lr=0.02"]


def test_weights_of_convolutions_lie_channels_last_and_so_do_their_outputs() -> None:
    model = assemble(composed([*QUIET, *CNN, ON]), chosen={}).model
    layers = [one for one in model.modules() if isinstance(one, torch.nn.Conv2d)]
    assert all(one.weight.is_contiguous(memory_format=torch.channels_last) for one in layers)
    outputs = []
    layers[1].register_forward_hook(lambda *given: outputs.append(given[2]))
    model(torch.randn(2, 1, 8, 8))
    assert outputs[0].is_contiguous(memory_format=torch.channels_last) and not outputs[0].is_contiguous()


@pytest.mark.parametrize(
    ("tensor", "are"),
    [
        (torch.zeros(3, 4), True),
        (torch.zeros(3, 4).t(), True),
        (torch.zeros(2, 3, 4, 5).to(memory_format=torch.channels_last), True),
        (torch.zeros(()), True),
        (torch.zeros(6, 1, 2), True),
        (torch.zeros(6, 4)[:, ::2], False),
        (torch.zeros(6, 1).expand(6, 4), False),
    ],
)
def test_fused_kernels_are_for_tensors_without_gaps(tensor: torch.Tensor, are: bool) -> None:
    assert are_one_after_the_other(tensor) == are


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
@pytest.mark.parametrize("micro_size", [10, 100])
def test_training_is_the_same(train: Callable[..., Any], optimizer: str, micro_size: int) -> None:
    options = [*CNN, f"optimizer={optimizer}", "optimizer.lr=0.01", "batch.size=100", "batch_norm.group_size=10"]
    options += [f"batch.micro_size={micro_size}", "duration=1ep", "trainer.precision=64-true", "ema=1ep"]
    mine, theirs = (final_weights(train(*options, *more).run_dir) for more in ([ON], []))
    for name in theirs:
        assert relative_difference(mine[name].double(), theirs[name].double()) <= 1e-9, name
