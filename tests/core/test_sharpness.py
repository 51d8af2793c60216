"""Keskar's metric against closed forms, every corner of the box, and scipy's L-BFGS-B."""

import itertools

import numpy as np
import pytest
import torch
from scipy.optimize import minimize
from torch import Tensor, nn

from mbtrain.core.sharpness import random_basis, sharpness, subspace_sharpness
from tests.core.functions import cross_entropy, flat, quadratic, samples, small_net

EPSILONS = [1e-3, 5e-4]


def drawn(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def normal(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=drawn(7), dtype=torch.float64)


@pytest.mark.parametrize("epsilon", EPSILONS)
@pytest.mark.parametrize("away", [0.0, 1e-5, 0.3])
def test_sharpness_of_a_quadratic_is_the_closed_form(epsilon: float, away: float) -> None:
    curvature, minimum = torch.linspace(0.1, 40, 12, dtype=torch.float64), normal(12)
    weights = minimum + away * torch.linspace(-1, 1, 12, dtype=torch.float64)
    box, slope = epsilon * (weights.abs() + 1), curvature * (weights - minimum)
    here = 0.5 + (curvature * (weights - minimum) ** 2).sum() / 2
    expected = 100 * (curvature * box**2 / 2 + slope.abs() * box).sum() / (1 + here)
    found = sharpness(quadratic(torch.diag(curvature), minimum), weights, epsilon=epsilon, generator=drawn())
    assert float(found) == pytest.approx(float(expected), rel=1e-6)


def test_sharpness_at_a_summit_is_zero() -> None:
    minimum = normal(5)
    loss = quadratic(-torch.eye(5, dtype=torch.float64), minimum)
    assert float(sharpness(loss, minimum, epsilon=1e-3, generator=drawn())) == 0


def test_sharpness_in_a_subspace_is_the_closed_form() -> None:
    directions = torch.linalg.qr(normal(12, 12)).Q.T[:4]
    curvature, stretch = torch.tensor([30.0, 2.0, 7.0, 0.5]).double(), torch.tensor([1.0, 3.0, 0.2, 2.0]).double()
    basis = stretch[:, None] * directions
    matrix = directions.T @ torch.diag(curvature) @ directions + 3 * (
        torch.eye(12).double() - directions.T @ directions
    )
    minimum, weights = normal(12), normal(12) + 0.1
    # A+ x: the rows of the basis are orthogonal, of length `stretch`.
    box = 1e-3 * ((directions @ weights / stretch).abs() + 1)
    slope = basis @ matrix @ (weights - minimum)
    here = 0.5 + (weights - minimum) @ matrix @ (weights - minimum) / 2
    expected = 100 * (curvature * stretch**2 * box**2 / 2 + slope.abs() * box).sum() / (1 + here)
    found = subspace_sharpness(quadratic(matrix, minimum), weights, basis, epsilon=1e-3, generator=drawn())
    assert float(found) == pytest.approx(float(expected), rel=1e-6)


def test_more_directions_than_weights_span_all_of_them() -> None:
    weights, loss = normal(3), quadratic(torch.eye(3, dtype=torch.float64), normal(3) + 1)
    basis = random_basis(20, weights, generator=drawn())
    coordinates = torch.from_numpy(np.linalg.pinv(basis.T.numpy())) @ weights
    slope = basis @ loss.gradient(weights)[1]
    least = 1e-6 * (slope.abs() * (coordinates.abs() + 1)).sum()
    found = subspace_sharpness(loss, weights, basis, epsilon=1e-6, generator=drawn())
    assert float(found) == pytest.approx(100 * float(least / (1 + loss.gradient(weights)[0])), rel=1e-3)


@pytest.mark.parametrize("epsilon", [1e-3, 0.3])
def test_sharpness_of_a_linear_classifier_is_that_of_the_best_corner(epsilon: float) -> None:
    torch.manual_seed(0)
    model = nn.Linear(3, 2).double()
    loss, weights = cross_entropy(model, [samples(30, num_features=3, num_classes=2)]), flat(model)
    box, here = epsilon * (weights.abs() + 1), loss.gradient(weights)[0]
    corners = torch.tensor(list(itertools.product([-1.0, 1.0], repeat=len(weights)))).double()
    best = max(float(loss.gradient(weights + box * corner)[0]) for corner in corners)
    found = sharpness(loss, weights, epsilon=epsilon, generator=drawn())
    assert float(found) == pytest.approx(100 * (best - float(here)) / (1 + float(here)), rel=1e-6)


@pytest.mark.parametrize("epsilon", [*EPSILONS, 0.01])
def test_ten_steps_reach_what_l_bfgs_b_reaches_on_a_small_net(epsilon: float) -> None:
    model = small_net()
    loss, weights = cross_entropy(model, [samples(30, num_features=4, num_classes=3)]), flat(model)
    box, here = (epsilon * (weights.abs() + 1)).numpy(), float(loss.gradient(weights)[0])

    def negative(y: np.ndarray) -> tuple[float, np.ndarray]:
        value, gradient = loss.gradient(weights + torch.from_numpy(y))
        return -float(value), -gradient.numpy()

    theirs = minimize(negative, 0 * box, jac=True, bounds=list(zip(-box, box, strict=True)), method="L-BFGS-B")
    mine = float(sharpness(loss, weights, epsilon=epsilon, generator=drawn()))
    assert mine >= 100 * (-theirs.fun - here) / (1 + here) * (1 - 1e-6)
