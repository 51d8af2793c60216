"""CIFAR-10: 60,000 small colour pictures of ten kinds, from the publisher's archive or the folder in it."""

from __future__ import annotations

import hashlib
import tarfile
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from mbtrain.data.cifar_pickle import read_batch
from mbtrain.data.files import Remote, find_files
from mbtrain.data.splits import Arrays, Splits
from mbtrain.plan.refused import Refused

ADDRESSES = ("https://www.cs.toronto.edu/~kriz/",)
ARCHIVE = Remote("cifar-10-python.tar.gz", "6d958be074577803d12ecdefd02955f39262c83c16fe9348329d7fe0b5c001ce")
FOLDER = "cifar-10-batches-py"
# The MD5 that torchvision checks the same files by.
MD5 = {
    "data_batch_1": "c99cafc152244af753f735de768cd75f",
    "data_batch_2": "d4bba439e000b95fd0a9bffe97cbabec",
    "data_batch_3": "54ebc095f3ab1f0389bbae665268c751",
    "data_batch_4": "634d18415352ddfa80567beed471001a",
    "data_batch_5": "482c414d41f54cd18b22e5b47cb7c3cb",
    "test_batch": "40351d587109b95175f43aff81a1287e",
}
# The files hold 31 million bytes each; more is not read.
LARGEST = 1 << 27


@dataclass(frozen=True)
class Cifar10:
    """50,000 training and 10,000 test images [n, 3, 32, 32], uint8 (Krizhevsky 2009)."""

    data_root: str

    def splits(self) -> Splits:
        """Read the folder `cifar-10-batches-py`, else the archive, which is downloaded where it is missing.

        Looked for in `data_root/cifar10`, `data_root/cifar-10` and `data_root`. Nothing is unpacked, and reading runs
        no code from the files. Files that are not the official ones are used, and a note says so.
        """
        root = Path(self.data_root).expanduser()
        folders = (root / "cifar10" / FOLDER, root / "cifar-10" / FOLDER, root / FOLDER)
        folder = next((one for one in folders if one.is_dir()), None)
        contents = _of_archive(root) if folder is None else _of_folder(folder)
        changed = [name for name, (_, content) in contents.items() if _md5(content) != MD5[name]]
        batches = {name: read_batch(content, source) for name, (source, content) in contents.items()}
        test = batches.pop("test_batch")
        x, y = (np.concatenate(parts) for parts in zip(*batches.values(), strict=True))
        notes = (f"{', '.join(changed)} of CIFAR-10: not the official files, used as they are",) if changed else ()
        return Splits(_arrays(x, y), test=_arrays(*test), num_classes=10, normalize=True, notes=notes)


def _arrays(x: np.ndarray, y: np.ndarray) -> Arrays:
    return Arrays(torch.from_numpy(x), torch.from_numpy(y))


def _md5(content: bytes) -> str:
    return hashlib.md5(content, usedforsecurity=False).hexdigest()


def _of_folder(folder: Path) -> dict[str, tuple[str, bytes]]:
    """(where it is from, content) of each file by name."""
    missing = [name for name in MD5 if not (folder / name).is_file()]
    if missing:
        raise Refused(f"{folder}: it lacks {', '.join(missing)}: unpack {ARCHIVE.name} there again")
    contents = {}
    for name in MD5:
        with (folder / name).open("rb") as file:
            contents[name] = (str(folder / name), file.read(LARGEST))
    return contents


def _of_archive(root: Path) -> dict[str, tuple[str, bytes]]:
    """The same from the archive, which is read in one pass and not unpacked: no name in it becomes a path."""
    try:
        path = find_files("cifar10", [ARCHIVE], data_root=root, addresses=ADDRESSES).paths[ARCHIVE.name]
    except Refused as error:
        raise Refused(f"{error}, or the folder {FOLDER} that it holds") from None
    contents = {}
    try:
        with tarfile.open(path) as archive:
            for member in archive:
                folder, _, name = member.name.rpartition("/")
                file = archive.extractfile(member) if folder == FOLDER and name in MD5 and member.isreg() else None
                if file is not None:
                    contents[name] = (f"{name} of {path}", file.read(LARGEST))
    except (tarfile.TarError, OSError, EOFError, zlib.error) as error:
        raise Refused(f"{path}: it cannot be read ({error}): delete it, and it is downloaded again") from None
    missing = [name for name in MD5 if name not in contents]
    if missing:
        raise Refused(f"{path}: it lacks {', '.join(missing)} in {FOLDER}: delete it, and it is downloaded again")
    return {name: contents[name] for name in MD5}
