"""Closed forms against autograd, a sample at a time."""

import pytest
import torch
from torch import nn

from mbtrain.core.per_example import has_closed_form, layer_squares

CASES = {
    "linear": (nn.Linear(5, 3), (4, 5)),
    "no bias": (nn.Linear(5, 3, bias=False), (4, 5)),
    "few positions": (nn.Linear(9, 8), (4, 2, 9)),
    "many positions": (nn.Linear(5, 3), (4, 11, 5)),
    "two dimensions of positions": (nn.Linear(5, 3), (4, 2, 3, 5)),
    "layer norm": (nn.LayerNorm(5), (4, 5)),
    "layer norm of positions": (nn.LayerNorm((3, 5)), (4, 6, 3, 5)),
}


@pytest.mark.parametrize("name", CASES)
def test_closed_form_is_the_norm_that_autograd_gives(name: str) -> None:
    layer, shape = CASES[name]
    layer.double()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for one in layer.parameters():
            one.copy_(torch.randn(one.shape, generator=generator))
    inputs = torch.randn(shape, dtype=torch.float64, generator=generator)
    output = layer(inputs)
    (slope,) = torch.autograd.grad(output.tanh().sum(), output)
    found = layer_squares(layer, inputs, slope)
    for sample in range(shape[0]):
        alone = torch.autograd.grad(layer(inputs[sample : sample + 1]).tanh().sum(), list(layer.parameters()))
        expected = torch.stack([one.square().sum() for one in alone])
        assert torch.allclose(torch.stack([one[sample] for one in found]), expected, rtol=1e-12)


def test_a_layer_without_a_closed_form_is_no_layer_for_it() -> None:
    assert has_closed_form(nn.Linear(1, 1)) and not has_closed_form(nn.Conv1d(1, 1, 1))
    with pytest.raises(TypeError, match="Conv1d has no closed form"):
        layer_squares(nn.Conv1d(1, 1, 1), torch.ones(2, 1, 3), torch.ones(2, 1, 3))


def test_a_layer_without_bias_has_one_square() -> None:
    inputs, slope = torch.tensor([[3.0, 4.0]]), torch.tensor([[2.0]])
    (square,) = layer_squares(nn.Linear(2, 1, bias=False), inputs, slope)
    assert square.tolist() == [100.0]
    # Over two positions the products add up before they are squared: (3, 4) x 2 and (1, 0) x 1.
    inputs, slope = torch.tensor([[[3.0, 4.0], [1.0, 0.0]]]), torch.tensor([[[2.0], [1.0]]])
    (square,) = layer_squares(nn.Linear(2, 1, bias=False), inputs, slope)
    assert square.tolist() == [7.0**2 + 8.0**2]
