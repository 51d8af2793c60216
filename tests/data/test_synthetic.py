import itertools

import numpy as np
import pytest
import torch

from mbtrain.data.splits import as_splits
from mbtrain.data.synthetic import Quadratic, Teacher, synthetic
from mbtrain.plan.refused import Refused

OPTIONS = {
    "kind": "teacher", "task": "classes", "num_samples": 200, "dimension": 5, "num_classes": 3, "noise": 0.1,
    "decay": 1.0, "seed": 0,
}  # fmt: skip


def test_the_same_seed_draws_the_same_samples():
    first, second = as_splits(synthetic(**OPTIONS)).train, as_splits(synthetic(**OPTIONS)).train
    assert torch.equal(first.x, second.x)
    assert torch.equal(first.y, second.y)


def test_another_seed_draws_other_samples():
    first, second = as_splits(synthetic(**OPTIONS)).train, as_splits(synthetic(**OPTIONS | {"seed": 1})).train
    assert not torch.equal(first.x, second.x)


def test_a_teacher_of_classes_uses_all_of_them():
    splits = as_splits(synthetic(**OPTIONS))
    assert splits.num_classes == 3
    assert sorted(splits.train.y.unique().tolist()) == [0, 1, 2]


def test_a_teacher_of_numbers_gives_one_number_of_spread_one():
    y = as_splits(Teacher(1000, 5, num_classes=None, noise=0.0, seed=0)).train.y
    assert y.shape == (1000, 1)
    assert float(y.std(correction=0)) == pytest.approx(1, abs=1e-12)


def test_a_quadratics_targets_are_linear_where_there_is_no_noise():
    quadratic = Quadratic(50, 4, noise=0.0, decay=1.0, seed=3)
    train = as_splits(quadratic).train
    assert np.allclose(train.x.numpy() @ quadratic.minimum, train.y[:, 0].numpy(), rtol=0, atol=1e-12)


def _expectation(quadratic, value):
    """E[value(x, e)] by Gauss-Hermite quadrature, exact for polynomials of degree below 12."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(6)
    weights = weights / weights.sum()
    total = 0
    for places in itertools.product(range(6), repeat=quadratic.dimension + 1):
        place = np.array(places)
        x = nodes[place[:-1]] * quadratic.spectrum**0.5
        total = total + weights[place].prod() * value(x, quadratic.noise * nodes[place[-1]])
    return total


QUADRATIC = Quadratic(10, 2, noise=0.7, decay=1.5, seed=0)
WEIGHTS = np.array([0.3, -1.1])


def _gradient(x, error):
    return 2 * ((WEIGHTS - QUADRATIC.minimum) @ x - error) * x


def test_the_expected_squared_error_is_the_stated_loss():
    gap = WEIGHTS - QUADRATIC.minimum
    assert _expectation(QUADRATIC, lambda x, error: (gap @ x - error) ** 2) == pytest.approx(
        QUADRATIC.loss(WEIGHTS), rel=1e-12
    )


def test_the_hessian_gives_the_expected_gradient():
    expected = QUADRATIC.hessian() @ (WEIGHTS - QUADRATIC.minimum)
    assert np.allclose(_expectation(QUADRATIC, _gradient), expected, rtol=1e-12, atol=1e-12)


def test_the_covariance_of_gradients_is_the_stated_one():
    mean = _expectation(QUADRATIC, _gradient)
    second = _expectation(QUADRATIC, lambda x, error: np.outer(_gradient(x, error), _gradient(x, error)))
    stated = QUADRATIC.gradient_noise_covariance(WEIGHTS)
    assert np.allclose(second - np.outer(mean, mean), stated, rtol=1e-12, atol=1e-12)


def test_the_samples_of_a_quadratic_have_its_spectrum():
    quadratic = Quadratic(200_000, 3, noise=0.1, decay=1.0, seed=0)
    # Four standard errors of a variance, sqrt(2 / n) of it.
    assert np.allclose(as_splits(quadratic).train.x.var(0), quadratic.spectrum, rtol=4 * (2 / 200_000) ** 0.5)


@pytest.mark.parametrize(
    "change",
    [{"kind": "pupil"}, {"task": "ranks"}, {"num_samples": 1}, {"dimension": 0}, {"num_classes": 1}, {"noise": -0.1},
     {"noise": float("nan")}, {"seed": -1}],
)  # fmt: skip
def test_an_impossible_option_is_refused_by_its_key(change):
    (key,) = change
    with pytest.raises(Refused, match=f"dataset.{key}="):
        synthetic(**OPTIONS | change)
