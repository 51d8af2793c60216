import hashlib
import subprocess
import sys

import numpy as np
import pytest
import torch

from mbtrain.data import cifar10
from mbtrain.data.cifar10 import Cifar10
from mbtrain.data.cifar_pickle import read_batch
from mbtrain.data.splits import as_splits
from mbtrain.plan.refused import Refused
from tests.data.cifar_files import FOLDER, NAMES, batch, images, labels, python_2_batch, write_archive, write_folder


def check_is_the_data_set(splits):
    expected = np.concatenate([images(name) for name in NAMES[:5]]).reshape(-1, 3, 32, 32)
    assert np.array_equal(splits.train.x, expected) and splits.train.x.dtype == torch.uint8
    assert np.array_equal(splits.test.x, images("test_batch").reshape(-1, 3, 32, 32))
    assert splits.train.y.tolist() == labels() * 5 and splits.test.y.tolist() == labels()
    assert splits.num_classes == 10 and splits.normalize


@pytest.mark.parametrize("protocol", [3, 4, 5])
def test_a_batch_of_any_protocol_is_read(protocol):
    x, y = read_batch(batch(protocol=protocol), "a file")
    assert np.array_equal(x.reshape(4, -1), images("data_batch_1")) and y.tolist() == labels()


def test_a_batch_as_the_publisher_wrote_it_is_read():
    x, y = read_batch(python_2_batch(), "a file")
    assert np.array_equal(x.reshape(4, -1), images("data_batch_1")) and y.tolist() == labels()


def test_the_folder_is_read(tmp_path):
    write_folder(tmp_path)
    check_is_the_data_set(as_splits(Cifar10(str(tmp_path))))


@pytest.mark.parametrize("root", ["cifar10", "."])
def test_the_folder_is_looked_for_in_data_root_and_below_it(tmp_path, root):
    write_folder(tmp_path)
    check_is_the_data_set(as_splits(Cifar10(str(tmp_path / root))))


def test_the_folder_may_be_named_with_a_hyphen(tmp_path):
    write_folder(tmp_path).parent.rename(tmp_path / "cifar-10")
    check_is_the_data_set(as_splits(Cifar10(str(tmp_path))))


def test_the_archive_is_read_and_nothing_is_written(tmp_path):
    members = {f"{FOLDER}/{name}": batch(name) for name in NAMES}
    others = {"../evil": b"x", "/tmp/evil": b"x", f"{FOLDER}/readme.html": b"x", f"other/{NAMES[0]}": b"x"}
    path = write_archive(tmp_path, others | members | {f"a/../../{FOLDER}/{NAMES[1]}": b"x"})
    before = sorted(tmp_path.parent.rglob("*"))
    check_is_the_data_set(as_splits(Cifar10(str(tmp_path))))
    assert sorted(tmp_path.parent.rglob("*")) == before and path.is_file()


def test_files_that_are_not_the_official_ones_are_told(tmp_path, monkeypatch):
    write_folder(tmp_path)
    monkeypatch.setattr(
        cifar10, "MD5", {name: hashlib.md5(batch(name)).hexdigest() for name in NAMES} | {"data_batch_3": "another"}
    )
    (note,) = Cifar10(str(tmp_path)).splits().notes
    assert note == "data_batch_3 of CIFAR-10: not the official files, used as they are"


def test_where_the_archive_cannot_be_had_the_message_names_files_and_folder(tmp_path, serve, monkeypatch):
    monkeypatch.setattr(cifar10, "ADDRESSES", (serve(b"", ["404"] * 9).address,))
    with pytest.raises(Refused, match=f"cifar10 lacks cifar-10-python.tar.gz.*HTTP 404.*or the folder {FOLDER}"):
        Cifar10(str(tmp_path)).splits()


@pytest.mark.slow
def test_real_cifar_10_has_its_sizes_and_mean(data_root, tmp_path):
    script = data_root / "cifar-10" / "unpack.py"
    if not script.is_file():
        pytest.skip(f"no cifar-10 in {data_root}")
    subprocess.run([sys.executable, script, tmp_path], check=True)
    found = as_splits(Cifar10(str(tmp_path)))
    assert (len(found.train), len(found.test)) == (50_000, 10_000)
    assert torch.bincount(found.train.y).tolist() == [5000] * 10
    means = found.train.x.float().mean((0, 2, 3)) / 255
    assert torch.allclose(means, torch.tensor([0.4914, 0.4822, 0.4465]), atol=5e-4)
