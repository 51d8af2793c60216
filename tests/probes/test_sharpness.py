"""probe=sharpness on linear regression, whose Hessian, and loss at every corner of a box, are plain formulas."""

import itertools
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from mbtrain.assembly import assemble
from tests.composing import composed
from tests.conftest import QUIET, final_weights, rows

LINEAR = ["dataset=synthetic", "dataset.kind=quadratic", "dataset.num_samples=200", "dataset.dimension=4"]
LINEAR += ["model.hidden=[]", "loss=mse", "trainer.precision=64-true", "optimizer.lr=0.05", "duration=3ep"]
ALL = ["probe=sharpness", "probe.sharpness.num_samples=10000", "probe.sharpness.part_size=33"]


def columns(run_dir: Any) -> dict[int, dict[str, float]]:
    """What the probe logged, by iteration."""
    found = {
        row["iteration"]: {k[10:]: v for k, v in row.items() if k.startswith("sharpness/")} for row in rows(run_dir)
    }
    return {iteration: values for iteration, values in found.items() if values}


@pytest.fixture
def linear(train: Callable[..., Any]) -> tuple[dict[str, float], Tensor, Tensor, Tensor]:
    """The columns at the end, the final weights [5], the training samples with a 1 [n, 5], the targets [n]."""
    result = train(*LINEAR, *ALL)
    source = assemble(composed([*QUIET, *LINEAR]), chosen={}).data.train
    x, y = source.read(range(len(source)))
    weights = torch.cat([one.reshape(-1) for one in final_weights(result.run_dir).values()])
    (found,) = columns(result.run_dir).values()
    return found, weights, torch.cat([x, torch.ones(len(x), 1)], 1).double(), y[:, 0].double()


def test_hessian_is_that_of_the_final_weights_on_the_training_samples(
    linear: tuple[dict[str, float], Tensor, Tensor, Tensor],
) -> None:
    found, _, x, _ = linear
    hessian = 2 * x.T @ x / len(x)
    assert found["top_eigenvalue"] == pytest.approx(float(torch.linalg.eigvalsh(hessian)[-1]), rel=1e-9)
    assert found["top_eigenvalue_error"] < 1e-6
    assert found["trace"] == pytest.approx(float(hessian.trace()), abs=4 * found["trace_error"])


@pytest.mark.parametrize("epsilon", [1e-3, 5e-4])
def test_metric_is_that_of_the_highest_corner(
    linear: tuple[dict[str, float], Tensor, Tensor, Tensor], epsilon: float
) -> None:
    found, weights, x, y = linear

    def loss(w: Tensor) -> float:
        return float((x @ w - y).square().mean())

    box = epsilon * (weights.abs() + 1)
    corners = itertools.product([-1.0, 1.0], repeat=5)
    highest = max(loss(weights + box * torch.tensor(corner).double()) for corner in corners)
    expected = 100 * (highest - loss(weights)) / (1 + loss(weights))
    assert found[f"full_{epsilon:g}"] == pytest.approx(expected, rel=1e-9)
    # 100 random directions span all five: steps in them reach further.
    assert found[f"subspace_{epsilon:g}"] > expected


def test_it_measures_where_it_is_asked_to(train: Callable[..., Any]) -> None:
    asked = ["probe.sharpness.at=[2it,100%]", "probe.sharpness.every=4it", "probe.sharpness.num_directions=0"]
    found = columns(train(*LINEAR, *ALL, *asked, "duration=9it", "probe.sharpness.num_products=2").run_dir)
    assert list(found) == [2, 4, 8, 9]
    names = {"full_0.001", "full_0.0005", "top_eigenvalue", "top_eigenvalue_error", "trace", "trace_error"}
    assert set(found[2]) == names


def test_batch_norm_is_in_evaluation_so_the_size_of_a_part_changes_nothing(train: Callable[..., Any]) -> None:
    run = ["model=cnn", "model.channels=[2]", "duration=2it", "trainer.precision=64-true", "probe=sharpness"]
    run += ["probe.sharpness.num_samples=24", "probe.sharpness.num_directions=2", "model.dropout=0.5"]
    run += ["probe.sharpness.num_products=3", "probe.sharpness.epsilons=[1e-3]"]
    first, second = (columns(train(*run, f"probe.sharpness.part_size={size}").run_dir)[2] for size in (24, 5))
    assert second == pytest.approx(first, rel=1e-9)


def test_attention_has_its_curvature_measured_too(train: Callable[..., Any], tmp_path: Any) -> None:
    (tmp_path / "text.txt").write_text("to be or not to be, that is the question. " * 20)
    small = ["dataset=text", f"dataset.path={tmp_path}/text.txt", "dataset.context=8", "model=gpt", "duration=1it"]
    small += ["model.depth=1", "model.width=8", "model.heads=2", "probe=sharpness", "probe.sharpness.num_samples=4"]
    (found,) = columns(train(*small, "probe.sharpness.num_products=3").run_dir).values()
    assert found["top_eigenvalue"] > 0
