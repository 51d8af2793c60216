import torch

from mbtrain.data.fashion_mnist import FashionMnist
from mbtrain.data.prepare import Options, prepare
from mbtrain.data.splits import as_splits


def test_real_fashion_mnist_is_the_official_one(real_data):
    splits = as_splits(FashionMnist(str(real_data)))
    assert splits.notes == ()
    assert (len(splits.train), len(splits.test)) == (60_000, 10_000)
    assert torch.bincount(splits.train.y).tolist() == [6000] * 10


def test_real_fashion_mnist_has_the_published_mean_and_spread(real_data):
    splits = as_splits(FashionMnist(str(real_data)))
    data = prepare(splits, Options(val_fraction=0), device=torch.device("cpu"), dtype=torch.float32)
    assert abs(float(data.normalize.mean) / 255 - 0.28604) < 1e-5
    assert abs(float(data.normalize.std) / 255 - 0.35302) < 1e-5
