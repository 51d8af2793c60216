import numpy as np
import pytest
import torch
from torch.utils.data import Dataset, Subset, TensorDataset

from mbtrain.data.splits import Arrays, Splits, as_splits

X, Y = torch.arange(12.0).reshape(6, 2), torch.tensor([0, 1, 2, 0, 1, 2])


class Pairs(Dataset):
    def __init__(self, **attributes):
        self.__dict__.update(attributes)

    def __len__(self):
        return len(X)

    def __getitem__(self, index):
        return X[index], Y[index]


class Reader:
    def __init__(self, found):
        self.splits = lambda: found


@pytest.mark.parametrize(
    "found",
    [
        (X, Y),
        (X.numpy(), Y.numpy()),
        (X.tolist(), Y.tolist()),
        Arrays(X, Y),
        TensorDataset(X, Y),
        {"train": (X, Y)},
        Splits((X, Y)),
        Reader((X, Y)),
        Reader({"train": TensorDataset(X, Y)}),
    ],
)
def test_arrays_in_any_form_become_the_same_training_set(found):
    splits = as_splits(found)
    assert isinstance(splits.train, Arrays)
    assert torch.equal(splits.train.x, X)
    assert torch.equal(splits.train.y, Y)
    assert splits.num_classes == 3


@pytest.mark.parametrize("name", ["val", "validation"])
def test_the_validation_set_has_two_names(name):
    assert len(as_splits({"train": (X, Y), name: (X[:2], Y[:2])}).validation) == 2


def test_a_map_style_dataset_stays_what_it_is():
    dataset = Pairs()
    assert as_splits(dataset).train is dataset


def test_a_list_of_samples_is_a_map_style_dataset():
    samples = [(X[0], 0), (X[1], 1), (X[2], 0)]
    assert as_splits(samples).train is samples


@pytest.mark.parametrize(
    "attributes", [{"num_classes": 7}, {"classes": list("abcdefg")}, {"targets": [0, 1, 2, 6, 1, 2]}]
)
def test_a_dataset_says_how_many_classes_it_has(attributes):
    assert as_splits(Pairs(**attributes)).num_classes == 7


def test_a_dataset_that_says_nothing_has_an_unknown_number_of_classes():
    assert as_splits(Pairs()).num_classes is None


def test_a_subset_has_the_targets_of_its_samples():
    assert as_splits(Subset(Pairs(targets=Y), [0, 1, 3, 4])).num_classes == 2


def test_a_subset_has_the_classes_of_its_dataset():
    assert as_splits(Subset(Pairs(classes=list("abcdefg")), [0, 1])).num_classes == 7


def test_targets_that_are_names_are_left_alone():
    assert as_splits(Pairs(targets=list("abcabc"))).num_classes is None


def test_all_parts_count_the_classes():
    assert as_splits({"train": (X, Y), "test": (X, Y + 2)}).num_classes == 5


def test_labels_of_tokens_may_be_left_out():
    y = torch.tensor([[0, 1], [-100, 4]])
    assert as_splits((X[:2], y)).num_classes == 5


@pytest.mark.parametrize(
    ("dtype", "kept"),
    [("float32", torch.float32), ("float64", torch.float64), (">f8", torch.float64), ("uint8", torch.uint8),
     ("int32", torch.int32), ("uint16", torch.int64), ("bool", torch.float32), ("longdouble", torch.float64)],
)  # fmt: skip
def test_inputs_of_any_number_type_become_tensors(dtype, kept):
    x = as_splits((np.ones((6, 2), dtype=dtype), Y)).train.x
    assert x.dtype == kept
    assert bool((x == 1).all())


@pytest.mark.parametrize("dtype", [np.uint8, np.int32, np.bool_])
def test_labels_of_any_whole_type_become_int64(dtype):
    assert as_splits((X, np.array([0, 1, 1, 0, 1, 0], dtype=dtype))).train.y.dtype == torch.int64


def test_a_read_only_array_is_copied_without_a_warning():
    x = X.numpy().copy()
    x.flags.writeable = False
    assert torch.equal(as_splits((x, Y)).train.x, X)


def test_a_tensor_that_needs_a_gradient_is_detached():
    assert not as_splits((X.clone().requires_grad_(), Y)).train.x.requires_grad
