import subprocess
import sys

import torch

from mbtrain.data.digits import Digits
from mbtrain.data.splits import as_splits


def test_digits_are_1797_images_from_0_to_1_in_ten_classes():
    splits = as_splits(Digits())
    assert splits.train.x.shape == (1797, 1, 8, 8)
    assert (float(splits.train.x.min()), float(splits.train.x.max())) == (0.0, 1.0)
    assert splits.num_classes == 10
    assert splits.normalize


def test_digits_equal_those_of_scikit_learn():
    code = (
        "import torch; from sklearn.datasets import load_digits; from mbtrain.data.digits import Digits\n"
        "ours, theirs = Digits().splits().train, load_digits()\n"
        "assert torch.equal(ours.x[:, 0].double() * 16, torch.from_numpy(theirs.images))\n"
        "assert torch.equal(ours.y, torch.from_numpy(theirs.target))"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_digits_are_read_without_importing_scikit_learn():
    code = (
        "import sys; from mbtrain.data.digits import Digits; Digits().splits()\n"
        "assert not {'sklearn', 'scipy', 'pooch'} & sys.modules.keys()"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_digits_are_owned_by_the_reader():
    first, second = Digits().splits().train, Digits().splits().train
    first.x.zero_()
    assert bool(torch.any(second.x != 0))
