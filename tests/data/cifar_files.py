"""CIFAR-10's files in miniature: the folder, the archive, and a batch as Python 2 wrote the official ones."""

import io
import pickle
import tarfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np

NAMES = (*(f"data_batch_{number}" for number in range(1, 6)), "test_batch")
FOLDER = "cifar-10-batches-py"


def images(name: str, size: int = 4) -> np.ndarray:
    return np.random.default_rng(NAMES.index(name)).integers(0, 256, (size, 3072), dtype=np.uint8)


def labels(size: int = 4) -> list[int]:
    return [number % 10 for number in range(size)]


def batch(name: str = "data_batch_1", *, size: int = 4, protocol: int = 4) -> bytes:
    content = {b"batch_label": name.encode(), b"labels": labels(size), b"data": images(name, size)}
    return pickle.dumps(content, protocol=protocol)


def python_2_batch(name: str = "data_batch_1", size: int = 4) -> bytes:
    """Protocol 2 with byte strings as `str` and numpy's old module, which is what the publisher's files are."""

    def text(value: str) -> bytes:
        return b"U" + bytes([len(value)]) + value.encode()

    raw = images(name, size).tobytes()
    kind = (
        b"cnumpy\ndtype\n("
        + text("u1")
        + b"K\x00K\x01tR(K\x03"
        + text("|")
        + b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
    )
    empty = b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(K\x00t" + text("b") + b"tR"
    state = b"(K\x01(K" + bytes([size]) + b"M\x00\x0ct" + kind + b"\x89T" + len(raw).to_bytes(4, "little") + raw + b"tb"
    numbers = b"](" + b"".join(b"K" + bytes([one]) for one in labels(size)) + b"e"
    named = text("batch_label") + text(name) + text("labels") + numbers + text("data") + empty + state
    return b"\x80\x02}(" + named + b"u."


def write_folder(root: Path, changed: Mapping[str, bytes] | None = None, *, size: int = 4) -> Path:
    """`root/cifar10/cifar-10-batches-py`, some files of it changed."""
    folder = root / "cifar10" / FOLDER
    folder.mkdir(parents=True)
    for name, content in ({one: batch(one, size=size) for one in NAMES} | dict(changed or {})).items():
        (folder / name).write_bytes(content)
    return folder


def write_archive(root: Path, members: Mapping[str, bytes], *, links: Mapping[str, str] | None = None) -> Path:
    """`root/cifar10/cifar-10-python.tar.gz` with these members and symbolic links."""
    path = root / "cifar10" / "cifar-10-python.tar.gz"
    path.parent.mkdir(parents=True)
    with tarfile.open(path, "w:gz") as archive:
        for name, content in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
        for name, target in (links or {}).items():
            member = tarfile.TarInfo(name)
            member.type, member.linkname = tarfile.SYMTYPE, target
            archive.addfile(member)
    return path
