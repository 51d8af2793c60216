import numpy as np
import pytest
import torch

from mbtrain.data.arrays import NpzFile
from mbtrain.data.splits import as_splits

X = np.arange(12.0).reshape(6, 2)
CLASSES = np.array([0, 1, 2, 0, 1, 2])


def read(path, **arrays):
    np.savez(path / "mine.npz", **arrays)
    return as_splits(NpzFile(str(path / "mine.npz")))


def test_x_and_y_are_the_training_set(tmp_path):
    splits = read(tmp_path, x=X, y=CLASSES)
    assert torch.equal(splits.train.x, torch.from_numpy(X))
    assert (splits.validation, splits.test) == (None, None)


@pytest.mark.parametrize("train", [("x", "y"), ("x_train", "y_train")])
def test_validation_and_test_sets_stand_under_val_and_test(tmp_path, train):
    x, y = train
    splits = read(tmp_path, **{x: X, y: CLASSES}, x_val=X[:2], y_val=CLASSES[:2], x_test=X[:3], y_test=CLASSES[:3])
    assert (len(splits.train), len(splits.validation), len(splits.test)) == (6, 2, 3)


def test_whole_number_y_is_classes(tmp_path):
    splits = read(tmp_path, x=X, y=CLASSES.astype(np.uint8))
    assert splits.train.y.dtype == torch.int64
    assert splits.num_classes == 3


def test_float_y_is_numbers(tmp_path):
    splits = read(tmp_path, x=X, y=CLASSES.astype(np.float32))
    assert splits.train.y.dtype == torch.float32
    assert splits.num_classes is None


def test_num_classes_may_be_more_than_were_seen(tmp_path):
    np.savez(tmp_path / "mine.npz", x=X, y=CLASSES)
    assert as_splits(NpzFile(str(tmp_path / "mine.npz"), num_classes=5)).num_classes == 5


def test_arrays_are_not_normalised_by_default(tmp_path):
    assert not read(tmp_path, x=X, y=CLASSES).normalize


def test_other_arrays_in_the_file_are_let_be(tmp_path):
    assert len(read(tmp_path, x=X, y=CLASSES, names=np.array(["a", None], dtype=object)).train) == 6
