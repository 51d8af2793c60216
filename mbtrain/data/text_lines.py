"""The lines of a text file, each a sample of its own length, padded with targets that count for nothing."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from mbtrain.data.splits import Arrays, Splits
from mbtrain.data.targets import IGNORED
from mbtrain.data.text import encoded, find_text
from mbtrain.plan.refused import Refused

START = "\n"


@dataclass(frozen=True)
class TextLines:
    """A line of k characters: inputs are a newline and the line, targets the line and a newline: k + 1 positions.

    Both are ids [n, longest + 1], int64; behind a line's end the inputs are newlines and the targets -100. Blank lines
    are left out. A line longer than `max_length` (null: no limit) is cut there, and its end is not a target. The
    vocabulary is that of all lines, with the newline.
    """

    data_root: str
    path: str | None
    max_length: int | None

    def splits(self) -> Splits:
        """Read the lines; which are held out is drawn as for any data set."""
        if self.max_length is not None and self.max_length < 1:
            raise Refused(f"dataset.max_length={self.max_length}: it must be at least 1, or null")
        found = find_text(self.path, self.data_root)
        lines = [line for line in found.text.split("\n") if line.strip()]
        ids, vocabulary = encoded("".join(line[: self.max_length] + START for line in lines))
        lengths = np.array([len(line[: self.max_length]) + 1 for line in lines])
        is_cut = lengths <= [len(line) for line in lines]
        notes = list(found.notes)
        if is_cut.any():
            notes.append(f"{is_cut.sum():,} of {len(lines):,} lines are cut (dataset.max_length={self.max_length})")
        train = _padded(ids.numpy(), lengths, is_cut, start=vocabulary.index(START))
        return Splits(train, num_classes=len(vocabulary), notes=tuple(notes))


def _padded(ids: np.ndarray, lengths: np.ndarray, is_cut: np.ndarray, *, start: int) -> Arrays:
    """One row a line, of the ids of all lines one after the other, each with its newline at the end."""
    is_there = np.arange(lengths.max()) < lengths[:, None]  # [lines, positions]
    x = np.full(is_there.shape, start)
    y = np.full(is_there.shape, IGNORED)
    y[is_there] = ids
    x[:, 1:] = np.where(is_there[:, 1:], y[:, :-1], start)
    y[is_cut, lengths[is_cut] - 1] = IGNORED
    return Arrays(torch.from_numpy(x), torch.from_numpy(y))
