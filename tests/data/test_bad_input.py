"""Every wrong file, array or option that a user may bring: refused in one line that says what is wrong and where."""

import gzip
import pickle

import numpy as np
import pytest
import torch
from torch.utils.data import Dataset, IterableDataset

from mbtrain.data.arrays import NpzFile
from mbtrain.data.augment import augment_of
from mbtrain.data.mnist import Mnist
from mbtrain.data.prepare import Options, prepare
from mbtrain.data.splits import Splits, as_splits
from mbtrain.plan.refused import Refused
from tests.data.conftest import CPU, IDX_NAMES, idx_bytes, idx_contents

X, Y = np.arange(40.0).reshape(20, 2), np.arange(20) % 2
TRAIN_IMAGES, TRAIN_LABELS, TEST_IMAGES, TEST_LABELS = IDX_NAMES


def idx(**changed):
    """MNIST with one file changed: `images=` or `labels=` of the training set, as raw file content."""

    def make(path):
        (path / "mnist").mkdir()
        names = {"images": f"{TRAIN_IMAGES}.gz", "labels": f"{TRAIN_LABELS}.gz"}
        files = {f"{name}.gz": gzip.compress(content) for name, content in idx_contents().items()}
        files |= {names[name]: content for name, content in changed.items()}
        for name, content in files.items():
            (path / "mnist" / name).write_bytes(content)
        as_splits(Mnist(str(path)))

    return make


def npz(**arrays):
    def make(path):
        np.savez(path / "mine.npz", **arrays)
        as_splits(NpzFile(str(path / "mine.npz")))

    return make


def npz_bytes(content):
    def make(path):
        (path / "mine.npz").write_bytes(content)
        as_splits(NpzFile(str(path / "mine.npz")))

    return make


def given(found):
    return lambda path: as_splits(found)


def options(found=(X, Y), **chosen):
    return lambda path: prepare(as_splits(found), Options(**chosen), device=CPU, dtype=torch.float32)


def at(row, value, array=X):
    changed = array.copy()
    changed[row] = value
    return changed


def saved_npz(path):
    np.savez(path / "mine.npz", x=X, y=Y)
    return (path / "mine.npz").read_bytes()


def truncated_npz(path):
    npz_bytes(saved_npz(path)[:-40])(path)


def flipped_npz(path):
    content = bytearray(saved_npz(path))
    content[200] ^= 1
    npz_bytes(bytes(content))(path)


def one_array(path):
    np.save(path / "mine.npy", X)
    NpzFile(str(path / "mine.npy")).splits()


class Items(Dataset):
    def __init__(self, items, **attributes):
        self.items = items
        self.__dict__.update(attributes)

    def __len__(self):
        return len(self.items)

    def __getitem__(self, index):
        return self.items[index]


class Stream(IterableDataset):
    def __iter__(self):
        return iter([(0.0, 0)])

    def __len__(self):
        return 1


def items(*samples, **attributes):
    return options(Items(samples, **attributes), val_fraction=0)


ZIPPED = gzip.compress(idx_contents()[TRAIN_IMAGES])
LABELS = np.arange(20) % 10
OBJECTS = np.array([X, None], dtype=object)

CASES = {
    # files
    "truncated gz": (idx(images=ZIPPED[: len(ZIPPED) // 2]), [f"{TRAIN_IMAGES}.gz", "delete it"]),
    "flipped gz": (idx(images=ZIPPED[:-8] + bytes(8)), [f"{TRAIN_IMAGES}.gz", "CRC"]),
    "not gz": (idx(images=b"<html>no such file</html>"), [f"{TRAIN_IMAGES}.gz", "cannot be read"]),
    "wrong magic": (idx(images=gzip.compress(b"\0\0\x0d\x03" + bytes(12))), [f"{TRAIN_IMAGES}.gz", "00000d03"]),
    "images for labels": (idx(labels=ZIPPED), [f"{TRAIN_LABELS}.gz", "00000803"]),
    "label count": (
        idx(labels=gzip.compress(idx_bytes(LABELS[:19]))),
        [f"{TRAIN_LABELS}.gz", "19 labels", "20 images"],
    ),
    "label 11 of ten classes": (
        idx(labels=gzip.compress(idx_bytes(at(3, 11, LABELS)))),
        [TRAIN_LABELS, "label 11", "row 3", "0 to 9"],
    ),
    "idx without samples": (
        idx(
            images=gzip.compress(idx_bytes(np.empty((0, 28, 28)))),
            labels=gzip.compress(idx_bytes(np.empty(0))),
        ),
        ["train is empty"],
    ),
    "no such path": (
        lambda path: NpzFile(str(path / "none.npz")).splits(),
        ["dataset.path=", "none.npz", "no such file"],
    ),
    "path not given": (lambda path: NpzFile(None).splits(), ["dataset.path=null"]),
    "a text file": (npz_bytes(b"x,y\n1,2\n"), ["mine.npz", "np.savez"]),
    "an empty file": (npz_bytes(b""), ["mine.npz", "np.savez"]),
    "a pickle": (npz_bytes(pickle.dumps({"x": 1})), ["mine.npz", "np.savez"]),
    "a truncated npz": (truncated_npz, ["mine.npz", "np.savez"]),
    "a flipped bit in npz": (flipped_npz, ["mine.npz", "np.savez"]),
    "npy": (one_array, ["mine.npy", "without a name"]),
    "missing y": (npz(x=X), ["dataset.path=", "y", "needed are x, y"]),
    "missing y_val": (npz(x=X, y=Y, x_val=X), ["y_val"]),
    "neither x nor x_train": (npz(features=X), ["x_train"]),
    "a misspelt part": (npz(x=X, y=Y, x_valid=X, y_valid=Y), ["x_valid"]),
    "x and x_train": (npz(x=X, y=Y, x_train=X, y_train=Y), ["x_train"]),
    "object arrays": (npz(x=OBJECTS, y=Y[:2]), ["mine.npz", "Object arrays"]),
    # arrays
    "objects": (given((OBJECTS, Y[:2])), ["x of train", "object"]),
    "strings": (given((X, np.array(["cat"] * 20))), ["y of train"]),
    "complex": (given((X + 1j, Y)), ["x of train", "complex"]),
    "complex tensor": (given((torch.zeros(2, 2, dtype=torch.complex64), Y[:2])), ["x of train", "complex"]),
    "ragged": (given(([[1.0], [1.0, 2.0]], [0, 1])), ["x of train", "ragged"]),
    "NaN features": (given((at(7, np.nan), Y)), ["x of train", "row 7"]),
    "infinite features": (given((at(19, np.inf), Y)), ["x of train", "row 19"]),
    "NaN far down": (given((at(4999, np.nan, np.ones((5000, 1))), np.arange(5000) % 2)), ["x of train", "row 4999"]),
    "NaN targets": (given((X, at(5, np.nan, Y.astype(float)))), ["y of train", "row 5"]),
    "NaN in the test set": (given({"train": (X, Y), "test": (at(2, np.nan), Y)}), ["x of test", "row 2"]),
    "lengths": (given((X, Y[:19])), ["(20, 2)", "(19,)"]),
    "empty": (given((X[:0], Y[:0])), ["train is empty"]),
    "no features": (given((X[:, :0], Y)), ["train is empty"]),
    "one dimension": (given((X[:, 0], Y)), ["(20,)", "x[:, None]"]),
    "a column of classes": (given((X, Y[:, None])), ["(20, 1)", "y[:, 0]"]),
    "one class only": (given((X, np.ones(20, int))), ["every y of train is 1"]),
    "negative labels": (given((X, Y - 1)), ["negative", "row 0"]),
    "labels out of range": (given(Splits((X, at(4, 2, Y)), num_classes=2)), ["label 2", "row 4", "0 to 1"]),
    "test labels out of range": (
        given(Splits((X, Y), test=(X, at(6, 9, Y)), num_classes=2)),
        ["y of test", "label 9", "row 6"],
    ),
    "hashed labels": (given((X, at(0, 10**9, Y))), ["1000000000", "more classes than samples"]),
    "wrong shape of the test set": (given({"train": (X, Y), "test": (X[:, :1], Y)}), ["x of test", "(1,)", "(2,)"]),
    "numbers against classes": (given({"train": (X, Y), "val": (X, Y + 0.5)}), ["y of validation", "float64"]),
    # what a target returns
    "nothing": (given(None), ["no training set"]),
    "a number": (given(3), ["train is a int", "map-style Dataset"]),
    "three arrays": (given((X, Y, Y)), ["tuple of 3"]),
    "a dict of arrays": (given({"x": X, "y": Y}), ["keys x, y", "train"]),
    "val and validation": (given({"train": (X, Y), "val": (X, Y), "validation": (X, Y)}), ["val, validation"]),
    "a stream": (given(Stream()), ["Stream", "map-style Dataset"]),
    "a Dataset of length 0": (given(Items([])), ["Items of length 0"]),
    "targets of another length": (given(Items([(X[0], 0)] * 3, targets=[0, 1])), ["2 targets for 3 samples"]),
    "a Dataset of one class": (given(Items([(X[0], 0)] * 3, targets=[1, 1, 1])), ["every y of train is 1"]),
    "a Dataset with labels out of range": (
        given(Items([(X[0], 0)] * 3, targets=[0, 1, 2], classes=["a", "b"])),
        ["label 2", "row 2"],
    ),
    "samples of three": (items((X[0], 0, 1)), ["a sample is a tuple", "(input, target)"]),
    "a dict without target": (items({"input": X[0], "label": 0}), ["a sample is a dict", "key target"]),
    "samples that are objects": (items((object(), 0)), ["cannot be stacked"]),
    # options
    "val_fraction 1": (options(val_fraction=1.0), ["dataset.val_fraction=1.0"]),
    "val_fraction below 0": (options(val_fraction=-0.1), ["dataset.val_fraction=-0.1"]),
    "val_fraction NaN": (options(val_fraction=float("nan")), ["dataset.val_fraction=nan"]),
    "test_fraction 1.5": (options(test_fraction=1.5), ["dataset.test_fraction=1.5"]),
    "a validation set of nobody": (options(val_fraction=0.01), ["dataset.val_fraction=0.01", "20 samples", "empty"]),
    "a training set of nobody": (options(val_fraction=0.99), ["dataset.val_fraction=0.99", "20 samples", "empty"]),
    "too few for the default": (options((X[:2], Y[:2])), ["dataset.val_fraction=0.1", "2 samples"]),
    "val_fraction beside a validation set": (
        options({"train": (X, Y), "val": (X, Y)}, val_fraction=0.0),
        ["dataset.val_fraction=0.0", "leave it null"],
    ),
    "test_fraction beside a test set": (
        options({"train": (X, Y), "test": (X, Y)}, test_fraction=0.2),
        ["dataset.test_fraction=0.2", "leave it null"],
    ),
    "normalising a dict": (
        options(Items([{"a": X[0], "b": X[0], "target": 0.5}]), val_fraction=0, normalize=True),
        ["dataset.normalize=true"],
    ),
    "augmenting vectors": (options(augment=["flip"]), ["dataset.augment=", "images", "(2,)"]),
    "an unknown augmentation": (options(augment=["flipp"]), ["flipp", "did you mean flip"]),
    "a crop of a string": (options(augment={"crop": "a"}), ["dataset.augment.crop=a"]),
    "a crop below 0": (options(augment={"crop": -1}), ["dataset.augment.crop=-1"]),
    "a flip of pixels": (options(augment={"flip": 3}), ["dataset.augment.flip=3"]),
    "an augmentation that is a number": (options(augment=3), ["dataset.augment=3"]),
    "a cutout larger than the image": (
        lambda path: augment_of({"cutout": 9}, torch.zeros(1, 1, 8, 8), CPU),
        ["dataset.augment.cutout=9", "8 pixels"],
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_bad_input_is_refused_in_one_line_that_names_it(tmp_path, case):
    make, fragments = CASES[case]
    with pytest.raises(Refused) as refused:
        make(tmp_path)
    message = str(refused.value)
    assert "\n" not in message
    for fragment in fragments:
        assert fragment in message
