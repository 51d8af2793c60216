"""The IDX files of MNIST and its kin: a strict reader, and the data set that four such files make."""

from __future__ import annotations

import gzip
import math
import zlib
from pathlib import Path

import numpy as np
import torch

from mbtrain.data.files import Remote, find_files
from mbtrain.data.splits import Arrays, Splits
from mbtrain.plan.refused import Refused

# MNIST's largest file holds 47 million bytes; a zipped bomb is not unpacked further than this.
LARGEST = 1 << 30

_NAMES = {
    "train": ("train-images-idx3-ubyte", "train-labels-idx1-ubyte"),
    "test": ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"),
}


def read_idx(path: Path, *, dimensions: int) -> np.ndarray:
    """The uint8 array in an IDX file, zipped where the name ends in .gz; raises Refused naming the file.

    Format: two zero bytes, 8 for unsigned bytes, the number of dimensions, each dimension as a big-endian uint32, then
    the bytes, no more and no fewer. http://yann.lecun.com/exdb/mnist
    """
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            content = file.read(LARGEST + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise Refused(f"{path}: it cannot be read ({error}): delete it, and it is downloaded again") from None
    if len(content) > LARGEST:
        raise Refused(f"{path}: holds more than {LARGEST:,} bytes, so it is no such data set: delete it")
    start = 4 + 4 * dimensions
    if content[:4] != bytes((0, 0, 8, dimensions)) or len(content) < start:
        raise Refused(
            f"{path}: it begins with {content[:4].hex()} instead of 000008{dimensions:02}, so it is no such IDX file: "
            "delete it, and it is downloaded again"
        )
    shape = tuple(np.frombuffer(content[4:start], ">u4").tolist())
    if len(content) != start + math.prod(shape):
        raise Refused(
            f"{path}: {len(content) - start} bytes follow a header that says shape {shape}: "
            "delete it, and it is downloaded again"
        )
    # A copy, since bytes cannot be written to and torch wants memory that can.
    return np.frombuffer(content, np.uint8, offset=start).reshape(shape).copy()


def idx_splits(name: str, data_root: str | Path, *, sha256: dict[str, str], addresses: tuple[str, ...]) -> Splits:
    """The training and test sets of ten classes in four IDX files, found or downloaded; images [n, 1, H, W]."""
    wanted = [Remote(f"{file}.gz", sha256[file]) for pair in _NAMES.values() for file in pair]
    found = find_files(name, wanted, data_root=Path(data_root).expanduser(), addresses=addresses)
    parts = {
        part: _read_part(found.paths[f"{images}.gz"], found.paths[f"{labels}.gz"])
        for part, (images, labels) in _NAMES.items()
    }
    return Splits(**parts, num_classes=10, normalize=True, notes=found.notes)


def _read_part(images: Path, labels: Path) -> Arrays:
    x, y = read_idx(images, dimensions=3), read_idx(labels, dimensions=1)
    if len(x) != len(y):
        raise Refused(
            f"{labels}: it has {len(y)} labels for the {len(x)} images of {images.name}: take both from one place"
        )
    if len(y) and y.max() > 9:
        raise Refused(
            f"{labels}: it holds the label {y.max()} in row {y.argmax()}: ten classes have labels from 0 to 9"
        )
    return Arrays(torch.from_numpy(x)[:, None], torch.from_numpy(y).long())
