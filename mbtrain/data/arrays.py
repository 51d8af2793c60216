"""The user's own arrays in an .npz file."""

from __future__ import annotations

import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mbtrain.data.splits import Splits
from mbtrain.plan.refused import Refused


@dataclass(frozen=True)
class NpzFile:
    """`x` and `y` (or `x_train` and `y_train`), and where there are any `x_val`, `y_val`, `x_test`, `y_test`.

    A whole-number y holds classes, a float y numbers. num_classes=None counts the classes.
    """

    path: str | None
    num_classes: int | None = None

    def splits(self) -> Splits:
        """Read the file, never running code from it: object arrays are refused."""
        if self.path is None:
            raise Refused("dataset.path=null: dataset=arrays needs a file: dataset.path=FILE.npz")
        arrays = _read(Path(self.path).expanduser())
        suffixes = {"train": "" if {"x", "y"} & arrays.keys() else "_train", "validation": "_val", "test": "_test"}
        pairs = {part: (f"x{suffix}", f"y{suffix}") for part, suffix in suffixes.items()}
        present = {part: pair for part, pair in pairs.items() if part == "train" or set(pair) & arrays.keys()}
        needed = {name for pair in present.values() for name in pair}
        if needed != arrays.keys():
            raise Refused(
                f"dataset.path={self.path}: its keys are {', '.join(sorted(arrays)) or 'none'}, needed are "
                f"{', '.join(sorted(needed))}: give x and y, or x_train and y_train, with _val and _test in pairs"
            )
        parts: dict[str, Any] = {part: (arrays[x], arrays[y]) for part, (x, y) in present.items()}
        return Splits(**parts, num_classes=self.num_classes)


def _read(path: Path) -> dict[str, np.ndarray]:
    """The arrays named x, y, x_... and y_...; whatever else lies in the file is not read."""
    if not path.is_file():
        raise Refused(f"dataset.path={path}: there is no such file: give an .npz file")
    try:
        # Opened here: numpy leaves a file open that it cannot read.
        with path.open("rb") as file:
            loaded = np.load(file, allow_pickle=False)
            if not isinstance(loaded, np.ndarray):
                return {name: loaded[name] for name in loaded.files if name in ("x", "y") or name[:2] in ("x_", "y_")}
    except (OSError, EOFError, ValueError, zipfile.BadZipFile, zlib.error) as error:
        reason = str(error).splitlines()[0]
        raise Refused(f"dataset.path={path}: it is no .npz file of numbers ({reason}): save it with np.savez") from None
    raise Refused(f"dataset.path={path}: it holds one array without a name: save it with np.savez(path, x=x, y=y)")
