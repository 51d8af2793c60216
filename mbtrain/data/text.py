"""The characters of a text file: ids, and windows of them for a model that predicts the next one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from mbtrain.data.files import Remote, find_files
from mbtrain.data.splits import PARTS, Arrays, Splits
from mbtrain.plan.refused import Refused

# The example that is read where no path is given: tiny Shakespeare, as its author's repository has it.
ADDRESSES = (
    "https://raw.githubusercontent.com/karpathy/char-rnn/6f9487a6fe5b420b7ca9afb0d7c078e37c1d1b4e/"
    "data/tinyshakespeare/",
)
EXAMPLE = Remote("input.txt", "86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed")


@dataclass(frozen=True)
class Text:
    """Windows of `context` characters and, as targets, the characters that follow each: ids [n, context], int64.

    `shares` cuts the text by position into training, validation and test part; no window reaches into another part. A
    training window begins `stride` characters after the one before (null: `context`, so an epoch is one pass over the
    text and sees each character once); those of the other parts never overlap. The last characters of a part, fewer
    than a window, are left out. The vocabulary is that of the whole text.
    """

    data_root: str
    path: str | None
    context: int
    stride: int | None
    shares: Sequence[float]

    def splits(self) -> Splits:
        """Read and cut the text; the windows are views of one array of ids."""
        stride = self.context if self.stride is None else self.stride
        for key, value, least in (("context", self.context, 2), ("stride", stride, 1)):
            if value < least:
                raise Refused(f"dataset.{key}={value}: it must be at least {least}")
        found = find_text(self.path, self.data_root)
        ids, vocabulary = encoded(found.text)
        ends = [0, *(round(share * len(ids)) for share in np.cumsum(_checked(self.shares)))]
        parts = {}
        for number, name in enumerate(PARTS):
            start, end = ends[number : number + 2]
            if end > start:
                step = stride if name == "train" else self.context
                parts[name] = _windows(ids[start:end], self.context, step, name=name)
        return Splits(**parts, num_classes=len(vocabulary), notes=found.notes)


def _checked(shares: Sequence[float]) -> Sequence[float]:
    is_sound = len(shares) == len(PARTS) and min(shares) >= 0 and shares[0] > 0 and abs(sum(shares) - 1) < 1e-9
    if not is_sound:
        raise Refused(
            f"dataset.shares={list(shares)}: give three numbers that add up to 1, of training, validation and test, "
            "such as [0.9,0.05,0.05]"
        )
    return shares


def _windows(ids: Tensor, context: int, stride: int, *, name: str) -> Arrays:
    if len(ids) <= context:
        raise Refused(
            f"dataset.context={context}: the {name} part has {len(ids):,} characters, a window takes one more than "
            "its context: give a longer text, a larger share or a smaller context"
        )
    return Arrays(ids[:-1].unfold(0, context, stride), ids[1:].unfold(0, context, stride))


class FoundText(NamedTuple):
    """A text, and what the user should know of its file."""

    text: str
    notes: tuple[str, ...]


def find_text(path: str | None, data_root: str) -> FoundText:
    """The text in the file at `path`, or tiny Shakespeare, found under `data_root` or downloaded; raises Refused."""
    if path is None:
        found = find_files("tinyshakespeare", [EXAMPLE], data_root=Path(data_root).expanduser(), addresses=ADDRESSES)
        file, notes = found.paths[EXAMPLE.name], found.notes
    else:
        file, notes = Path(path).expanduser(), ()
    try:
        text = file.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise Refused(f"dataset.path={path}: there is no such file: give a text file") from None
    except (OSError, UnicodeDecodeError) as error:
        raise Refused(f"{file}: it cannot be read as text in UTF-8 ({error}): give a text file") from None
    if not text.strip():
        raise Refused(f"{file}: it holds no text: give a file with characters to learn from")
    return FoundText(text, notes)


def encoded(text: str) -> tuple[Tensor, str]:
    """(ids of the characters [n], the vocabulary that they count): its distinct characters in the order of Unicode.

    >>> encoded("hello")
    (tensor([1, 0, 2, 2, 3]), 'ehlo')
    """
    points = np.frombuffer(text.encode("utf-32-le"), "<u4")
    distinct, ids = np.unique(points, return_inverse=True)
    return torch.from_numpy(ids), "".join(map(chr, distinct.tolist()))
