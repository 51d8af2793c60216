"""Models: shapes, what they refuse, that dropout is where it should be."""

import pytest
import torch
from torch import nn

from mbtrain.models.cnn import Cnn
from mbtrain.models.mlp import Mlp
from mbtrain.plan.refused import Refused


@pytest.mark.parametrize("hidden", [[], [8], [8, 5]])
def test_mlp_has_a_layer_per_width(hidden: list[int]) -> None:
    model = Mlp(input_shape=(1, 4, 4), num_outputs=3, hidden=hidden)
    widths = [(one.in_features, one.out_features) for one in model.modules() if isinstance(one, nn.Linear)]
    assert widths == list(zip([16, *hidden], [*hidden, 3], strict=True))
    assert model(torch.zeros(2, 1, 4, 4)).shape == (2, 3)


@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 32, 32), (1, 8, 8), (2, 9, 7)])
def test_cnn_takes_images_of_any_size(shape: tuple[int, ...]) -> None:
    model = Cnn(input_shape=shape, num_outputs=5, channels=[4, 6])
    assert model(torch.zeros(2, *shape)).shape == (2, 5)
    assert sum(isinstance(one, nn.BatchNorm2d) for one in model.modules()) == 2


@pytest.mark.parametrize("shape", [(64,), (1, 3, 8)])
def test_cnn_refuses_what_is_no_image_or_too_small(shape: tuple[int, ...]) -> None:
    with pytest.raises(Refused, match="model=cnn with 2 blocks needs images"):
        Cnn(input_shape=shape, num_outputs=2)


@pytest.mark.parametrize("make", [Mlp, Cnn])
def test_dropout_is_there_only_when_asked_for(make: type[nn.Module]) -> None:
    for dropout in (0.0, 0.5):
        model = make(input_shape=(1, 8, 8), num_outputs=2, dropout=dropout)
        assert any(isinstance(one, nn.Dropout) for one in model.modules()) is (dropout > 0)
