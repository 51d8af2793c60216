"""What orders may ask of a data set, sample by sample."""

import numpy as np
import pytest
import torch
from torch.utils.data import Dataset, Subset

from mbtrain.data.columns import columns_of
from mbtrain.data.prepare import Options, prepare
from mbtrain.data.splits import Arrays, as_splits

ALL = np.arange(6)


class Items(Dataset):
    """Six samples with further attributes."""

    def __init__(self, **attributes: object) -> None:
        self.__dict__.update(attributes)

    def __len__(self) -> int:
        return 6

    def __getitem__(self, index: int) -> tuple[float, float]:
        raise AssertionError("no sample is to be read")


def test_class_labels_are_the_targets() -> None:
    arrays = Arrays.from_numpy(np.zeros((6, 1)), [0, 1, 2, 2, 1, 0])
    assert columns_of(arrays, ALL)["labels"].tolist() == [0, 1, 2, 2, 1, 0]


@pytest.mark.parametrize("y", [np.zeros(6), np.zeros((6, 3), dtype=int)])
def test_numbers_and_tokens_are_no_labels(y: np.ndarray) -> None:
    assert "labels" not in columns_of(Arrays.from_numpy(np.zeros((6, 1)), y), ALL)


def test_lengths_and_columns_are_attributes() -> None:
    part = Items(lengths=[5, 4, 3, 2, 1, 0], columns={"w": torch.arange(6.0), "age": range(6)})
    found = columns_of(part, np.array([4, 1]))
    assert {name: values.tolist() for name, values in found.items()} == {"lengths": [1, 4], "w": [4, 1], "age": [4, 1]}


def test_a_subset_has_the_columns_of_its_samples() -> None:
    part = Subset(Subset(Items(lengths=[10, 11, 12, 13, 14, 15], targets=[0, 1, 0, 1, 0, 2]), [5, 3, 1]), [2, 0])
    assert {name: values.tolist() for name, values in columns_of(part, np.arange(2)).items()} == {
        "lengths": [11, 15],
        "labels": [1, 2],
    }


@pytest.mark.parametrize("other", [[1, 2], "sixsix", np.zeros((6, 2)), len, ["a"] * 6])
def test_attributes_of_another_meaning_are_no_columns(other: object) -> None:
    assert columns_of(Items(lengths=other, columns={"x": other}), ALL) == {}
    assert columns_of(Items(columns=other), ALL) == {}


def test_columns_are_those_of_the_training_part() -> None:
    x, y = torch.arange(50.0)[:, None], torch.arange(50) % 5
    data = prepare(
        as_splits((x, y)),
        Options(val_fraction=0.2, test_fraction=0.2),
        device=torch.device("cpu"),
        dtype=torch.float64,
    )
    assert len(data.columns["labels"]) == len(data.train) == 32
    np.testing.assert_array_equal(data.columns["labels"], y[data.train.indices])
