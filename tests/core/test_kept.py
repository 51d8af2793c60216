"""What autograd keeps, against what it must keep."""

import torch
from torch import nn

from mbtrain.core.kept import kept_bytes


def test_layer_keeps_its_input_and_not_what_is_left_out() -> None:
    layer, inputs = nn.Linear(16, 4), torch.randn(8, 16)
    weights = list(layer.parameters())
    assert kept_bytes(lambda: layer(inputs), apart_from=weights) == inputs.numel() * 4
    assert kept_bytes(lambda: layer(inputs.requires_grad_())) == inputs.numel() * 4 + layer.weight.numel() * 4


def test_what_two_operations_keep_counts_once() -> None:
    x = torch.randn(32, requires_grad=True)
    assert kept_bytes(lambda: x.square() + x.sin()) == 32 * 4


def test_micro_batch_of_half_the_samples_keeps_half() -> None:
    model = nn.Sequential(nn.Linear(16, 64), nn.ReLU(), nn.Linear(64, 4))
    weights = list(model.parameters())
    whole, half = (kept_bytes(lambda n=n: model(torch.randn(n, 16)), apart_from=weights) for n in (64, 32))
    assert whole == 2 * half > 0
