"""Weighted: draws in proportion to weights, with and without replacement."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.stats import chisquare

from mbtrain.plan.refused import Refused
from mbtrain.plan.weighted import Weighted

LABELS = np.repeat([0, 1, 2], [70, 25, 5])
N = len(LABELS)


def weighted(weights: Any = None, *, labels: np.ndarray | None = LABELS, **options: Any) -> Weighted:
    own = {"columns": {}, "indices": np.arange(N)} | options
    return Weighted(seed=3, labels=labels, weights=weights, **own)


def by_column(weights: list[float], *, replacement: bool) -> Weighted:
    return weighted("w", columns={"w": np.array(weights)}, replacement=replacement)


def seen(order: Weighted, num_epochs: int) -> np.ndarray:
    """How often each sample was drawn."""
    return np.bincount(np.concatenate([order(epoch) for epoch in range(num_epochs)]), minlength=N)


def test_samples_are_drawn_in_proportion_to_their_weights() -> None:
    weights = np.random.default_rng(1).random(N)
    counts = seen(weighted("w", columns={"w": weights}), 300)
    assert chisquare(counts, weights / weights.sum() * counts.sum()).pvalue > 1e-4


def test_no_weights_make_all_classes_equally_likely_and_the_samples_within() -> None:
    counts = seen(weighted(), 300)
    expected = 1 / np.bincount(LABELS)[LABELS] / 3 * counts.sum()
    assert chisquare(counts, expected).pvalue > 1e-4


def test_a_list_weighs_the_classes_samples() -> None:
    counts = seen(weighted([1, 2, 12]), 300)
    weights = np.array([1, 2, 12])[LABELS]
    assert chisquare(counts, weights / weights.sum() * counts.sum()).pvalue > 1e-4


def test_a_weight_of_zero_is_never_drawn_with_replacement() -> None:
    counts = seen(weighted([0, 1, 0]), 50)
    assert (counts > 0).tolist() == (LABELS == 1).tolist()


def test_draws_with_replacement_see_the_expected_number_of_samples() -> None:
    # E[seen] = sum of 1 - (1 - p)^N; the variance is below that of independent Bernoullis (negative association).
    share = 1 / np.bincount(LABELS)[LABELS] / 3
    missed = (1 - share) ** N
    mean = np.mean([len(np.unique(weighted()(epoch))) for epoch in range(400)])
    assert abs(mean - (1 - missed).sum()) < 5 * np.sqrt((missed * (1 - missed)).sum() / 400)


def test_without_replacement_each_sample_comes_once() -> None:
    assert sorted(weighted(replacement=False)(2)) == list(range(N))


def test_without_replacement_the_next_is_drawn_in_proportion_among_those_left() -> None:
    # P(i, then j) = p_i p_j / (1 - p_i): Efraimidis and Spirakis, eq. of the successive draws.
    p = np.array([0.5, 0.3, 0.15, 0.05])
    order = by_column(p.tolist(), replacement=False)
    pairs = np.array([order(epoch)[:2] for epoch in range(6000)])
    counts = np.zeros((4, 4))
    np.add.at(counts, (pairs[:, 0], pairs[:, 1]), 1)
    expected = p[:, None] * p / (1 - p[:, None])
    off = ~np.eye(4, dtype=bool)
    assert chisquare(counts[off], 6000 * expected[off]).pvalue > 1e-4


def test_without_replacement_weights_of_zero_come_last() -> None:
    order = by_column([0, 1, 0, 3], replacement=False)
    assert all(set(order(epoch)[2:]) == {0, 2} for epoch in range(20))


def test_a_file_has_the_weights_of_held_out_samples_too(tmp_path: Path) -> None:
    np.save(tmp_path / "w.npy", np.array([1, 0, 0, 1, 0]))
    order = weighted(f"{tmp_path}/w.npy", indices=np.array([1, 3, 4]))
    assert set(order(0)) == {1}


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ([1, 2], "sampler.weights: 2 weights for classes 0 to 2: give one for each class"),
        ([1, -2, 3], r"sampler.weights=\[1, -2, 3\]: weights are finite numbers of at least 0"),
        ([0, 0, 0], "not all 0"),
        ([1, 2, float("inf")], "finite"),
        (["a", "b", "c"], "give null, a list of numbers"),
        ([[1], [2], [3]], "give null, a list of numbers"),
        (3, "sampler.weights=3: give null, a list of numbers, FILE.npy, or the name of a column"),
        ("w", r"sampler.weights=w: the data set has no such column .* it has none \(a file's name ends in .npy\)"),
        ("nowhere.npy", "sampler.weights=nowhere.npy: cannot be read .*: save it with numpy.save"),
    ],
)
def test_weights_that_weigh_nothing_are_refused(weights: Any, message: str) -> None:
    with pytest.raises(Refused, match=message):
        weighted(weights)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (np.ones(N - 1), r"has shape \(99,\): give one weight for each sample"),
        (np.ones((N, 2)), r"has shape \(100, 2\)"),
        (np.full(N, "a"), "finite numbers"),
        (np.full(N, np.nan), "finite numbers"),
        (np.full(N, None), "cannot be read"),
    ],
)
def test_files_of_something_else_are_refused(tmp_path: Path, content: np.ndarray, message: str) -> None:
    np.save(tmp_path / "w.npy", content)
    with pytest.raises(Refused, match=message):
        weighted(f"{tmp_path}/w.npy")


@pytest.mark.parametrize("weights", [None, [1, 2, 3]])
def test_weights_by_class_without_labels_are_refused(weights: Any) -> None:
    with pytest.raises(Refused, match="sampler=weighted: needs a class for each sample"):
        weighted(weights, labels=None)
