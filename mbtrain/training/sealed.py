"""Files of weights that are whole or refused: written beside the target, hashed, flushed, renamed; read as data only.

A sealed file is what `torch.save` writes, a zip archive, whose comment is the SHA256 of all bytes before it: any zip
reader and `torch.load` read it as they would without.
"""

import hashlib
import os
from pathlib import Path
from typing import Any, BinaryIO

import torch

from mbtrain.log.files import sync_folder

# A zip archive ends with the length of its comment in two bytes, and the comment.
SEAL_BYTES = 64


class Damaged(Exception):
    """A file that is not what was written."""


def write_sealed(content: Any, path: Path) -> None:
    """`torch.save` that leaves either the old file or the whole new one, after any kill."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with beside.open("w+b") as file:
            torch.save(content, file)
            _seal(file)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def read_sealed(path: Path) -> Any:
    """Tensors and plain values of a sealed file, on the CPU; Damaged unless every byte is as it was written."""
    if not is_sealed(path):
        raise Damaged("its bytes are not those that were written")
    return read_plain(path)


def read_plain(path: Path) -> Any:
    """Tensors and plain values of any `torch.save` file, on the CPU; never runs code. Damaged where it is none."""
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise
    except Exception as error:
        raise Damaged(f"it cannot be read as weights ({type(error).__name__})") from None


def is_sealed(path: Path) -> bool:
    """Whether the file ends with the hash of all that stands before."""
    with path.open("rb") as file:
        length = file.seek(0, os.SEEK_END) - SEAL_BYTES
        if length < SEAL_BYTES:
            return False
        file.seek(length)
        seal = file.read()
        return _digest(file, length) == seal


def _seal(file: BinaryIO) -> None:
    file.seek(-2, os.SEEK_END)
    file.write(SEAL_BYTES.to_bytes(2, "little"))
    file.write(_digest(file, file.tell()))


def _digest(file: BinaryIO, length: int) -> bytes:
    """The hash of the first `length` bytes; the position afterwards is behind them."""
    digest = hashlib.sha256()
    file.seek(0)
    while length and (block := file.read(min(length, 1 << 20))):
        digest.update(block)
        length -= len(block)
    return digest.hexdigest().encode()
