"""What a data set gives: arrays or a map-style Dataset for training, validation and test."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset, IterableDataset, TensorDataset

from mbtrain.data.targets import IGNORED, check_labels
from mbtrain.plan.refused import Refused

PARTS = ("train", "validation", "test")
_FORMS = "(x, y), Arrays, a map-style Dataset, Splits, or a dict of these by train, validation, test"


@dataclass(frozen=True)
class Arrays:
    """Samples that live in memory.

    x: [n, ...] float features, integer ids, or uint8 images of at least two dimensions a sample.
    y: int64 [n] classes (or [n, positions], -100 being left out), or float [n] or [n, k] numbers.
    """

    x: Tensor
    y: Tensor

    @classmethod
    def from_numpy(cls, x: Any, y: Any, *, part: str = "train") -> Arrays:
        """Convert numpy arrays or tensors and check them: lengths, emptiness, NaN; raises Refused naming the row.

        >>> Arrays.from_numpy([[0.5], [1.5]], [0, 1]).y
        tensor([0, 1])
        """
        x, y = as_tensor(x, f"x of {part}"), as_tensor(y, f"y of {part}")
        if x.dtype == torch.bool:
            x = x.float()
        if not y.is_floating_point():
            y = y.long()
        _check_shapes(x, y, part)
        for name, values in (("x", x), ("y", y)):
            _check_finite(values, f"{name} of {part}")
        return cls(x, y)

    def __len__(self) -> int:
        return self.x.shape[0]

    @property
    def targets(self) -> Tensor:
        """All of `y`, under the name that Datasets have for it."""
        return self.y

    @property
    def lengths(self) -> Tensor | None:
        """How many targets each sample has that count, int64 [n]; None where a sample has one target, or numbers."""
        return None if self.y.is_floating_point() or self.y.ndim == 1 else (self.y != IGNORED).flatten(1).sum(1)

    def take(self, indices: np.ndarray) -> tuple[Tensor, Tensor]:
        """Copies of the samples at `indices`, in that order."""
        chosen = torch.from_numpy(indices)
        return self.x.index_select(0, chosen), self.y.index_select(0, chosen)


Part = Arrays | Dataset


@dataclass(frozen=True)
class Splits:
    """The parts of a data set; None where it has no such part of its own.

    normalize: what `dataset.normalize=null` means for this data set.
    notes: lines that the user should see, such as a file that is not the official one.
    """

    train: Any
    validation: Any = None
    test: Any = None
    num_classes: int | None = None
    normalize: bool = False
    notes: tuple[str, ...] = ()


def as_splits(found: object) -> Splits:
    """Bring what a dataset's `_target_` gave into one form, checked; raises Refused.

    Accepted: `(x, y)` of arrays or tensors, `Arrays`, `TensorDataset`, a map-style Dataset of (input, target) or of
    dicts with the key `target`, `Splits`, a dict of these by `train`, `validation` (or `val`), `test`, and an object
    whose method `splits()` returns any of these.

    >>> as_splits({"train": ([[0.0], [1.0]], [0, 1])}).num_classes
    2
    """
    give = getattr(found, "splits", None)
    if callable(give) and not isinstance(found, Dataset):
        return as_splits(give())
    splits = found if isinstance(found, Splits) else Splits(**_named(found))
    parts = {name: _as_part(getattr(splits, name), name) for name in PARTS}
    splits = replace(splits, **parts)
    if splits.train is None:
        raise Refused("dataset: it has no training set: return a part named train")
    _check_alike(parts)
    return replace(splits, num_classes=check_labels(parts, splits.num_classes))


def _named(found: object) -> dict[str, Any]:
    if not isinstance(found, Mapping):
        return {"train": found}
    parts = {"validation" if name == "val" else name: part for name, part in found.items()}
    unknown = sorted(str(name) for name in parts.keys() - set(PARTS))
    if unknown or "train" not in parts or len(parts) < len(found):
        raise Refused(
            f"dataset: a dict with the keys {', '.join(map(str, found))}: give train and, where there are any, "
            "validation (or val) and test"
        )
    return parts


def _as_part(value: Any, name: str) -> Part | None:
    if value is None:
        return None
    if isinstance(value, Arrays):
        return Arrays.from_numpy(value.x, value.y, part=name)
    if isinstance(value, TensorDataset):
        value = value.tensors
    if isinstance(value, tuple):
        if len(value) != 2:
            raise Refused(f"dataset: {name} is a tuple of {len(value)}: give the pair (x, y)")
        return Arrays.from_numpy(*value, part=name)
    if isinstance(value, IterableDataset) or not _is_map_style(value):
        raise Refused(f"dataset: {name} is a {type(value).__name__}: give {_FORMS}")
    if len(value) == 0:
        raise Refused(f"dataset: {name} is a {type(value).__name__} of length 0: it needs at least one sample")
    return value


def _is_map_style(value: object) -> bool:
    has_both = hasattr(value, "__getitem__") and hasattr(value, "__len__")
    return has_both and not isinstance(value, str | bytes | Mapping | np.ndarray | Tensor)


def as_tensor(values: Any, name: str) -> Tensor:
    """A detached CPU tensor of numbers, sharing memory where that is possible; raises Refused for anything else."""
    if isinstance(values, Tensor):
        tensor = values.detach().cpu()
        if tensor.is_complex():
            raise Refused(f"dataset: {name} holds {tensor.dtype}: give real numbers")
        return tensor
    try:
        array = np.asarray(values)
    except ValueError as error:
        raise Refused(f"dataset: {name} is ragged ({error}): give samples of one shape") from None
    if array.dtype.kind not in "biuf":
        raise Refused(f"dataset: {name} holds {array.dtype}: give numbers, as float, integer or uint8 arrays")
    return torch.from_numpy(np.require(array, _torch_dtype(array.dtype), ["C", "W"]))


def _torch_dtype(dtype: np.dtype) -> np.dtype:
    if dtype.kind == "f" and dtype.itemsize > 8:
        return np.dtype(np.float64)
    if dtype.kind == "u" and dtype.itemsize > 1:
        return np.dtype(np.int64)
    return dtype.newbyteorder("=")


def _check_shapes(x: Tensor, y: Tensor, part: str) -> None:
    if x.ndim == 0 or y.ndim == 0 or x.shape[0] != y.shape[0]:
        raise Refused(
            f"dataset: x of {part} has shape {tuple(x.shape)} and y {tuple(y.shape)}: give one y for each sample of x"
        )
    if x.numel() == 0 or y.numel() == 0:
        raise Refused(f"dataset: {part} is empty, x has shape {tuple(x.shape)}: it needs at least one sample")
    if x.ndim == 1 and x.is_floating_point():
        raise Refused(f"dataset: x of {part} has shape {tuple(x.shape)}: give [samples, features], as x[:, None] is")
    if y.ndim == 2 and y.shape[1] == 1 and not y.is_floating_point():
        raise Refused(f"dataset: y of {part} has shape {tuple(y.shape)}: classes have shape [samples], as y[:, 0] has")


def _check_finite(values: Tensor, name: str) -> None:
    if not values.is_floating_point():
        return
    # In chunks: a mask of everything would be a second copy of large data.
    for start in range(0, len(values), 4096):
        chunk = values[start : start + 4096]
        finite = torch.isfinite(chunk).reshape(len(chunk), -1).all(1)
        if not finite.all():
            row = start + int(finite.long().argmin())
            raise Refused(f"dataset: {name} holds NaN or infinity in row {row}: fill in or drop such samples")


def _check_alike(parts: dict[str, Part | None]) -> None:
    train = parts["train"]
    for name in ("validation", "test"):
        part = parts[name]
        if not isinstance(train, Arrays) or not isinstance(part, Arrays):
            continue
        for field in ("x", "y"):
            ours, theirs = getattr(train, field), getattr(part, field)
            # [1:] of a label tensor is (), so one comparison serves inputs and targets.
            if ours.shape[1:] != theirs.shape[1:] or ours.is_floating_point() != theirs.is_floating_point():
                raise Refused(
                    f"dataset: {field} of {name} has samples {tuple(theirs.shape[1:])} of {theirs.dtype}, train has "
                    f"{tuple(ours.shape[1:])} of {ours.dtype}: they must be alike"
                )
