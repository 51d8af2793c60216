"""The contract of a loss: values and weights whose quotient is torch's own mean."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mbtrain.losses.contract import as_loss, losses_of, takes_reduction
from mbtrain.losses.cross_entropy import CrossEntropy
from mbtrain.losses.numbers import MeanAbsoluteError, MeanSquaredError
from mbtrain.plan.refused import Refused

WEIGHT = torch.tensor([0.5, 2.0, 1.0, 4.0], dtype=torch.float64)


def mean_of(loss: Callable[..., Any], output: Tensor, target: Tensor) -> float:
    values, weights = losses_of(loss, output, target)
    return float(values.sum() / (values.numel() if weights is None else weights.sum()))


def classes(shape: tuple[int, ...] = (12,)) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    output = torch.randn(shape[0], 4, *shape[1:], dtype=torch.float64, generator=generator)
    return output, torch.randint(4, shape, generator=generator)


@pytest.mark.parametrize("shape", [(12,), (6, 5)], ids=["samples", "tokens"])
@pytest.mark.parametrize("weight", [None, WEIGHT], ids=["even", "weighted"])
@pytest.mark.parametrize("ignored", [None, 2])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_cross_entropy_is_torch_s_mean(
    shape: tuple[int, ...], weight: Tensor | None, ignored: int | None, smoothing: float
) -> None:
    output, target = classes(shape)
    expected = F.cross_entropy(
        output, target, weight, ignore_index=-100 if ignored is None else ignored, label_smoothing=smoothing
    )
    mine = CrossEntropy(
        class_weights=None if weight is None else weight.tolist(), ignore_index=ignored, label_smoothing=smoothing
    )
    assert mean_of(mine, output, target) == pytest.approx(float(expected), rel=1e-13)


def test_torch_s_own_class_losses_get_their_weights_back() -> None:
    output, target = classes()
    for options in ({}, {"weight": WEIGHT}, {"ignore_index": 1}, {"weight": WEIGHT, "ignore_index": 1}):
        expected = float(nn.CrossEntropyLoss(**options)(output, target))
        loss = as_loss(nn.CrossEntropyLoss(**options, reduction="none"))
        assert mean_of(loss, output, target) == pytest.approx(expected, rel=1e-13)


@pytest.mark.parametrize(("mine", "torch_s"), [(MeanSquaredError, nn.MSELoss), (MeanAbsoluteError, nn.L1Loss)])
@pytest.mark.parametrize("shapes", [((6,), (6,)), ((6, 1), (6,)), ((6, 3), (6, 3))], ids=str)
def test_losses_of_numbers_are_torch_s_means(mine: type, torch_s: type, shapes: Any) -> None:
    output, target = (torch.randn(shape, dtype=torch.float64) for shape in shapes)
    assert mean_of(mine(), output, target) == pytest.approx(float(torch_s()(output.reshape(target.shape), target)))


def test_numbers_of_other_shapes_are_refused_where_torch_would_broadcast() -> None:
    with pytest.raises(Refused, match=r"outputs \[6, 2\] do not match targets \[6\]"):
        MeanSquaredError()(torch.zeros(6, 2), torch.zeros(6))


def test_loss_that_gives_one_number_is_refused_with_the_cure() -> None:
    with pytest.raises(Refused, match="gives one number for the whole mini-batch.*reduction: none"):
        losses_of(lambda output, target: (output - target).mean(), torch.zeros(3), torch.zeros(3))


def test_loss_built_to_reduce_is_refused() -> None:
    with pytest.raises(Refused, match="CrossEntropyLoss reduces by 'mean'"):
        as_loss(nn.CrossEntropyLoss())


def test_weights_of_another_shape_are_refused() -> None:
    with pytest.raises(Refused, match=r"values \[3\] but weights \[1\]"):
        losses_of(lambda output, target: (output, torch.ones(1)), torch.zeros(3), torch.zeros(3))


def test_reduction_option_is_found() -> None:
    assert takes_reduction(nn.HuberLoss) and not takes_reduction(MeanSquaredError)


@pytest.mark.parametrize("options", [{"label_smoothing": 1.0}, {"class_weights": [1, -1]}, {"class_weights": [1.0]}])
def test_bad_options_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(Refused, match="loss."):
        CrossEntropy(**options, num_outputs=2)


def test_where_a_sample_has_many_targets_those_of_minus_100_count_for_nothing() -> None:
    output, target = classes((6, 5))
    target[::2, 3:] = -100
    for smoothing in (0.0, 0.1):
        expected = float(F.cross_entropy(output, target, WEIGHT, label_smoothing=smoothing))
        mine = CrossEntropy(class_weights=WEIGHT.tolist(), label_smoothing=smoothing)
        assert mean_of(mine, output, target) == pytest.approx(expected, rel=1e-13)
