"""The loader: the same samples and values from memory and from workers, random data sets included."""

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import Dataset

from mbtrain.data.loader import MiniBatch
from mbtrain.plan.batch import MicroBatch
from mbtrain.plan.iteration import Iteration
from tests.conftest import rows, without_times


class Noisy(Dataset):
    """Draws from all three generators that people use in __getitem__; gives dicts."""

    num_classes = 3

    def __init__(self, size: int = 100) -> None:
        self.size = size

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, index: int) -> dict[str, Any]:
        noise = torch.rand(5) + random.random() + float(np.random.rand())
        x = torch.full((5,), float(index % 3)) + noise
        return {"x": x, "scale": torch.tensor(1.0 + index % 2), "target": index % 3}


class OfDict(torch.nn.Module):
    """Takes a dict of inputs, with batch norm, so that BN groups matter."""

    def __init__(self, num_outputs: int) -> None:
        super().__init__()
        self.norm, self.linear = torch.nn.BatchNorm1d(5), torch.nn.Linear(5, num_outputs)

    def forward(self, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
        """Outputs [n, num_outputs]."""
        return self.linear(self.norm(inputs["x"]) * inputs["scale"][:, None])


@pytest.fixture
def own(tmp_path: Path) -> list[str]:
    for name, target in (("dataset", "Noisy"), ("model", "OfDict")):
        file = tmp_path / "conf" / name / "own.yaml"
        file.parent.mkdir(parents=True)
        file.write_text(f"_target_: tests.training.test_loader.{target}\n")
    return ["dataset=own", "model=own", "trust=[tests]", "duration=2ep", "batch.size=20", "batch_norm.group_size=5"]


def run(train: Callable[..., Any], tmp_path: Path, own: list[str], *more: str) -> Any:
    return train(*own, *more, config_dir=tmp_path / "conf")


def test_data_set_that_draws_random_numbers_gives_the_same_in_any_split(
    train: Callable[..., Any], tmp_path: Path, own: list[str]
) -> None:
    double = "trainer.precision=64-true"
    whole, parts = (
        run(train, tmp_path, own, "dataset.workers=0", double, *more) for more in ([], ["batch.micro_size=10"])
    )
    for a, b in zip(rows(whole.run_dir), rows(parts.run_dir), strict=True):
        assert a["train/loss"] == pytest.approx(b["train/loss"], rel=1e-9)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_data_set_that_draws_random_numbers_gives_the_same_with_any_workers(
    train: Callable[..., Any], tmp_path: Path, own: list[str]
) -> None:
    tables = []
    for workers in (0, 1, 2):
        result = run(train, tmp_path, own, f"dataset.workers={workers}")
        tables.append((result["weights_sha256"], without_times(rows(result.run_dir))))
    assert tables[0] == tables[1] == tables[2]


def test_memory_and_loader_give_the_same_bits(train: Callable[..., Any]) -> None:
    overrides = ["duration=2ep", "dataset.augment=[flip,crop,cutout]", "model=cnn", "batch_norm=ghost", "batch.size=70"]
    memory, loader = train(*overrides), train(*overrides, "dataset.workers=0")
    assert memory["weights_sha256"] == loader["weights_sha256"]
    assert without_times(rows(memory.run_dir)) == without_times(rows(loader.run_dir))


def test_order_of_another_length_is_an_epoch_of_that_length(train: Callable[..., Any], tmp_path: Path) -> None:
    file = tmp_path / "conf" / "sampler" / "own.yaml"
    file.parent.mkdir(parents=True)
    file.write_text("_target_: tests.training.test_loader.evens\n")
    result = train("sampler=own", "trust=[tests]", "duration=1ep", config_dir=tmp_path / "conf")
    assert result["samples_seen"] == 647


def evens(num_samples: int) -> Callable[[int], list[int]]:
    """An order of every second sample."""
    return lambda epoch: list(range(0, num_samples, 2))


def test_what_runs_dry_while_it_is_gathered_does_not_end_a_mini_batch_early() -> None:
    def gather(places: Any) -> Any:
        return next(iter(())) if places.start else (torch.zeros(2), torch.zeros(2))

    iteration = Iteration(0, 0, 0, 4, 0, True, 4)
    cut, places = [MicroBatch(0, 2), MicroBatch(2, 4)], [slice(0, 2), slice(2, 4)]
    mini_batch = MiniBatch(iteration, cut, places, gather, None, None, torch.device("cpu"))
    with pytest.raises(RuntimeError, match="StopIteration"):
        list(mini_batch.micro_batches())
