"""The pickled batches of CIFAR-10, read without running a line of what a pickle may name.

A pickle builds its objects by calling what it names. Here every name but those of a numpy array is refused, and those
stand for the classes below, which only keep what they are given: not even numpy sees it before it is checked.
"""

from __future__ import annotations

import io
import pickle
from typing import Any

import numpy as np

from mbtrain.plan.refused import Refused

PIXELS = 3 * 32 * 32


class _Type:
    """Stands for numpy.dtype: keeps its name."""

    def __init__(self, name: Any, *_: Any) -> None:
        self.name = name

    def __setstate__(self, state: Any) -> None:
        pass


class _Array:
    """Stands for a numpy array in the making: numpy's own state is (version, shape, type, is_fortran, bytes)."""

    def __init__(self, *_: Any) -> None:
        self.state: Any = ()

    def __setstate__(self, state: Any) -> None:
        self.state = state


class _Buffered(_Array):
    """Stands for an array of pickle protocol 5: (bytes, type, shape, order)."""

    def __init__(self, raw: Any, kind: Any, shape: Any, order: Any) -> None:
        super().__init__()
        self.state = (1, shape, kind, order != "C", raw)


# numpy moved from numpy.core to numpy._core; the official files name the old place.
_ALLOWED: dict[tuple[str, str], type] = {
    ("numpy", "ndarray"): _Array,
    ("numpy", "dtype"): _Type,
    ("numpy.core.multiarray", "_reconstruct"): _Array,
    ("numpy._core.multiarray", "_reconstruct"): _Array,
    ("numpy.core.numeric", "_frombuffer"): _Buffered,
    ("numpy._core.numeric", "_frombuffer"): _Buffered,
}


class _Unpickler(pickle.Unpickler):
    def find_class(self, module_name: str, global_name: str, /) -> type:
        try:
            return _ALLOWED[module_name, global_name]
        except KeyError:
            name = f"{module_name}.{global_name}"
            raise pickle.UnpicklingError(f"it names {name!a}, which is no part of it") from None


def read_batch(content: bytes, source: str) -> tuple[np.ndarray, np.ndarray]:
    """(images [n, 3, 32, 32] uint8, labels [n] int64) of a batch file; raises Refused, which names `source`.

    The format: a dict with b"data", uint8 [n, 3072], row by row of the red, then the green, then the blue plane, and
    b"labels", a list of n whole numbers from 0 to 9. https://www.cs.toronto.edu/~kriz/cifar.html
    """
    try:
        found = _Unpickler(io.BytesIO(content), encoding="bytes").load()
    except Exception as error:  # What a damaged or hostile pickle raises is not bounded.
        reason = " ".join(str(error).split())[:160] or type(error).__name__
        raise Refused(f"{source}: it is no batch of CIFAR-10 ({reason}): get the official file again") from None
    try:
        images, labels = _images(found[b"data"]), _labels(found[b"labels"])
    except (KeyError, TypeError, ValueError, AttributeError):
        raise Refused(
            f'{source}: it is no batch of CIFAR-10, a dict of b"data" (uint8 [n, {PIXELS}]) and b"labels" (a list of '
            "numbers from 0 to 9): get the official file again"
        ) from None
    if len(labels) != len(images):
        raise Refused(f"{source}: it has {len(labels)} labels for {len(images)} images: get the official file again")
    return images, labels


def _images(array: Any) -> np.ndarray:
    _, shape, kind, is_fortran, raw = array.state
    if kind.name not in ("u1", b"u1") or is_fortran or shape != (len(raw) // PIXELS, PIXELS) or not raw:
        raise ValueError
    # A copy, since bytes cannot be written to and torch wants memory that can.
    return np.frombuffer(raw, np.uint8).reshape(-1, 3, 32, 32).copy()


def _labels(labels: Any) -> np.ndarray:
    # One by one: lists of one another's lists would make numpy fill the memory.
    if not isinstance(labels, list) or not all(type(one) is int and 0 <= one <= 9 for one in labels):
        raise ValueError
    return np.array(labels, np.int64)
