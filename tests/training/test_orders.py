"""Every order trains, survives kills bit-exactly, and is refused where the data do not have what it needs."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import Dataset

from mbtrain.data.sources import MemorySource
from mbtrain.plan.refused import Refused
from tests.training.test_resume import check_same_run, train_with_kills

BY_CLASS = ["stratified", "balanced", "weighted", "class_sorted"]
NAMES = ["reshuffle", "shuffle_once", "with_replacement", "sequential", *BY_CLASS]


class Lines(Dataset):
    """Samples with a class, a length and a weight each."""

    def __init__(self) -> None:
        random = np.random.default_rng(0)
        self.x = random.standard_normal((300, 4)).astype("float32")
        self.targets = random.choice(3, size=300, p=[0.7, 0.2, 0.1])
        self.lengths = random.integers(1, 40, 300)
        self.columns = {"weight": random.random(300)}

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, index: int) -> tuple[np.ndarray, int]:
        return self.x[index], int(self.targets[index])


LINES = ["trust=[tests]", "dataset._target_=tests.training.test_orders.Lines", "dataset.test_fraction=0"]
CASES = [
    ["sampler=stratified"],
    ["sampler=balanced"],
    ["sampler=weighted"],
    ["sampler=weighted", "sampler.replacement=false", "sampler.weights=weight"],
    ["sampler=class_sorted", "sampler.shuffle_classes=true"],
    ["sampler=length_bucketed"],
    ["sampler=length_bucketed", "batch.size=all"],
]


@pytest.mark.parametrize("choice", CASES, ids=str)
def test_cut_run_of_an_order_equals_the_whole_one(train: Callable[..., Any], tmp_path: Path, choice: list[str]) -> None:
    overrides = [*LINES, "dataset.val_fraction=0", "duration=2ep", "batch.size=64", "checkpoint.every=2it", *choice]
    at = [1] if "batch.size=all" in choice else [1, 7]
    whole = train(*overrides)
    assert whole["epochs"] == 2
    check_same_run(train_with_kills(train, tmp_path / "cut", at, overrides), whole)


@pytest.mark.parametrize("name", NAMES)
def test_every_order_trains_on_the_built_in_data(train: Callable[..., Any], name: str) -> None:
    assert train(f"sampler={name}", "duration=1ep")["samples_seen"] == 1294


@pytest.mark.parametrize("name", BY_CLASS)
def test_order_by_class_is_refused_where_targets_are_numbers(train: Callable[..., Any], name: str) -> None:
    with pytest.raises(Refused, match=f"sampler={name}: needs a class for each sample"):
        train(f"sampler={name}", "dataset=synthetic", "dataset.task=numbers", "loss=mse")


def test_order_by_length_is_refused_where_there_are_no_lengths(train: Callable[..., Any]) -> None:
    with pytest.raises(Refused, match="sampler=length_bucketed: needs a length for each sample"):
        train("sampler=length_bucketed")


def test_column_that_is_not_there_is_refused_naming_those_that_are(train: Callable[..., Any]) -> None:
    with pytest.raises(Refused, match="sampler.weights=wieght: .* it has weight, lengths, labels"):
        train(*LINES, "sampler=weighted", "sampler.weights=wieght")


class Asks:
    """An order of one's own that asks for all there is, and notes it."""

    given: Mapping[str, Any]

    def __init__(self, num_samples: int, labels: Any, lengths: Any, columns: Any, indices: Any) -> None:
        Asks.given = {"num_samples": num_samples, "labels": labels, "lengths": lengths, "indices": indices} | columns

    def __call__(self, epoch: int) -> np.ndarray:
        return np.arange(Asks.given["num_samples"])


OWN = ["sampler=sequential", "sampler._target_=tests.training.test_orders.Asks", "duration=1ep"]


def test_ones_own_order_is_given_what_it_asks_for(train: Callable[..., Any]) -> None:
    train(*LINES, *OWN)
    given, lines = Asks.given, Lines()
    assert len(given["indices"]) == given["num_samples"] == 270
    for name, values in {"labels": lines.targets, "lengths": lines.lengths, "weight": lines.columns["weight"]}.items():
        np.testing.assert_array_equal(given[name], values[given["indices"]])


def test_ones_own_order_is_given_none_for_what_is_not_there(train: Callable[..., Any]) -> None:
    train("trust=[tests]", "dataset=synthetic", "dataset.task=numbers", "loss=mse", "optimizer.lr=1e-3", *OWN)
    assert Asks.given["labels"] is None and Asks.given["lengths"] is None


def test_mini_batches_of_a_stratified_run_have_the_class_proportions(
    train: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    gather, classes = MemorySource.gather, []

    def noted(self: MemorySource, indices: torch.Tensor) -> Any:
        inputs, target = gather(self, indices)
        classes.append(torch.bincount(target, minlength=10))
        return inputs, target

    monkeypatch.setattr(MemorySource, "gather", noted)
    train("sampler=stratified", "duration=2ep", "batch.size=50")
    counts = torch.stack(classes).double()
    share = counts.sum(0) / counts.sum()
    assert (counts - counts.sum(1, keepdim=True) * share).abs().max() < 2
