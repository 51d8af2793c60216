import gzip

import torch

from mbtrain.data.mnist import Mnist
from mbtrain.data.splits import as_splits
from tests.data.conftest import idx_contents


def test_mnist_gives_the_official_parts_as_uint8_images(idx_folder):
    splits = as_splits(Mnist(str(idx_folder.parent)))
    assert splits.train.x.shape == (20, 1, 28, 28)
    assert splits.test.x.shape == (10, 1, 28, 28)
    assert splits.train.x.dtype == torch.uint8
    assert splits.validation is None
    assert splits.num_classes == 10


def test_mnist_pixels_and_labels_are_those_of_the_files(idx_folder):
    train = as_splits(Mnist(str(idx_folder.parent))).train
    contents = idx_contents()
    assert bytes(train.x.numpy().tobytes()) == contents["train-images-idx3-ubyte"][16:]
    assert bytes(train.y.to(torch.uint8).numpy().tobytes()) == contents["train-labels-idx1-ubyte"][8:]


def test_mnist_reads_unzipped_files(idx_folder):
    zipped = as_splits(Mnist(str(idx_folder.parent)))
    for path in list(idx_folder.iterdir()):
        path.with_suffix("").write_bytes(gzip.decompress(path.read_bytes()))
        path.unlink()
    assert torch.equal(as_splits(Mnist(str(idx_folder.parent))).train.x, zipped.train.x)


def test_files_that_are_not_the_official_ones_are_named(idx_folder):
    assert len(as_splits(Mnist(str(idx_folder.parent))).notes) == 4


def test_mnist_is_normalised_by_default(idx_folder):
    assert as_splits(Mnist(str(idx_folder.parent))).normalize
