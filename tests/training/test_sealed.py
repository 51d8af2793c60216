"""Files of weights: whole or refused, after a flip of any bit and at any length; data only."""

import os
import pickle
import random
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch

from mbtrain.training.sealed import Damaged, is_sealed, read_plain, read_sealed, write_sealed

CONTENT = {"weights": {"a": torch.arange(400.0)}, "config": {"lr": 0.1, "names": ["x", None]}}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "some.ckpt"
    write_sealed(CONTENT, path)
    return path


def test_sealed_file_gives_back_what_was_written(file: Path) -> None:
    content = read_sealed(file)
    assert torch.equal(content["weights"]["a"], CONTENT["weights"]["a"])
    assert content["config"] == CONTENT["config"]
    assert [path.name for path in file.parent.iterdir()] == [file.name]


def test_torch_and_zip_read_a_sealed_file_as_any_other(file: Path) -> None:
    assert torch.load(file, weights_only=True)["config"]["lr"] == 0.1
    assert zipfile.ZipFile(file).testzip() is None


def test_thousand_bit_flips_are_all_detected(file: Path) -> None:
    whole, draw = file.read_bytes(), random.Random(0)
    for _ in range(1000):
        place, bit = draw.randrange(len(whole)), draw.randrange(8)
        damaged = bytearray(whole)
        damaged[place] ^= 1 << bit
        file.write_bytes(damaged)
        with pytest.raises(Damaged):
            read_sealed(file)


def test_hundred_truncations_are_all_detected(file: Path) -> None:
    whole, draw = file.read_bytes(), random.Random(0)
    for length in (0, 1, len(whole) - 1, *(draw.randrange(len(whole)) for _ in range(97))):
        file.write_bytes(whole[:length])
        with pytest.raises(Damaged):
            read_sealed(file)


def test_file_without_a_seal_is_damaged_unless_a_plain_one_is_asked_for(tmp_path: Path) -> None:
    torch.save(CONTENT, tmp_path / "plain.pt")
    assert not is_sealed(tmp_path / "plain.pt")
    with pytest.raises(Damaged):
        read_sealed(tmp_path / "plain.pt")
    assert read_plain(tmp_path / "plain.pt")["config"]["lr"] == 0.1


class Bomb:
    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.mark),)


def test_pickles_in_a_file_do_not_run(tmp_path: Path) -> None:
    mark = tmp_path / "ran"
    (tmp_path / "pickle.ckpt").write_bytes(pickle.dumps({"weights": Bomb(mark)}))
    torch.save({"weights": Bomb(mark)}, tmp_path / "zip.ckpt")
    write_sealed({"weights": Bomb(mark)}, tmp_path / "sealed.ckpt")
    for name, read in (("pickle", read_plain), ("zip", read_plain), ("sealed", read_sealed)):
        with pytest.raises(Damaged, match="cannot be read as weights"):
            read(tmp_path / f"{name}.ckpt")
    assert not mark.exists()


def test_write_that_breaks_leaves_the_old_file(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full_disk(number: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full_disk)
    with pytest.raises(OSError, match="No space"):
        write_sealed({"weights": {}}, file)
    assert read_sealed(file)["config"]["lr"] == 0.1
    assert [path.name for path in file.parent.iterdir()] == [file.name]
