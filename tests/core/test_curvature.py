"""Largest eigenvalue and trace of a Hessian against the dense one of a small net."""

import pytest
import torch
from torch import Tensor
from torch.autograd.functional import hessian

from mbtrain.core.curvature import top_eigenvalue, trace
from tests.core.functions import cross_entropy, flat, samples, small_net, whole


def start(size: int) -> Tensor:
    return torch.randn(size, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


@pytest.fixture(scope="module")
def dense() -> Tensor:
    model, batch = small_net(), samples(20, num_features=4, num_classes=3)
    matrix = hessian(whole(model, batch), flat(model))
    assert isinstance(matrix, Tensor)
    return matrix


def test_top_eigenvalue_of_a_small_net_is_that_of_its_dense_hessian(dense: Tensor) -> None:
    model, batch = small_net(), samples(20, num_features=4, num_classes=3)
    loss, weights = cross_entropy(model, [batch]), flat(model)
    top = top_eigenvalue(lambda v: loss.hessian_product(weights, v), start(len(weights)), num_products=20)
    assert float(top.value) == pytest.approx(float(torch.linalg.eigvalsh(dense)[-1]), rel=1e-6)


@pytest.mark.parametrize("num_products", [1, 2, 5, 10, 20, 80])
def test_an_eigenvalue_lies_within_the_error_that_is_told(dense: Tensor, num_products: int) -> None:
    top = top_eigenvalue(lambda v: dense @ v, start(len(dense)), num_products=num_products)
    nearest = (torch.linalg.eigvalsh(dense) - top.value).abs().min()
    assert float(nearest) <= float(top.error) + 1e-12
    assert float(top.error) < (1e-6 if num_products >= 20 else 1)


@pytest.mark.parametrize("diagonal", [[3.0, -5.0, 1.0], [-2.0, -2.0, -2.0], [0.0, 0.0, 0.0], [-4.0, -1.0, -9.0]])
def test_more_products_than_dimensions_change_nothing(diagonal: list[float]) -> None:
    values = torch.tensor(diagonal, dtype=torch.float64)
    top = top_eigenvalue(lambda v: values * v, start(3), num_products=12)
    assert float(top.value) == pytest.approx(max(diagonal), abs=1e-12)


def test_trace_and_its_standard_error_are_those_of_theory(dense: Tensor) -> None:
    found = trace(lambda v: dense @ v, dense[0], num_products=4000, generator=torch.Generator().manual_seed(0))
    off_diagonal = dense - torch.diag(dense.diagonal())
    error = (2 * off_diagonal.pow(2).sum() / 4000).sqrt()
    assert float(found.error) == pytest.approx(float(error), rel=0.1)
    assert abs(float(found.value - dense.trace())) < 3 * float(error)


def test_trace_of_a_diagonal_matrix_needs_two_vectors() -> None:
    values = torch.tensor([1.0, -2.0, 5.5], dtype=torch.float64)
    found = trace(lambda v: values * v, values, num_products=2, generator=torch.Generator().manual_seed(0))
    assert (float(found.value), float(found.error)) == (4.5, 0.0)
