"""From the parts of a data set to what training reads: splits held out, normalised, in memory or not."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from mbtrain.data.augment import Augment, augment_of
from mbtrain.data.columns import columns_of
from mbtrain.data.holdout import hold_out, num_held_out
from mbtrain.data.memory import free_bytes
from mbtrain.data.normalize import fit_normalize, is_image, unit_range
from mbtrain.data.sources import DatasetSource, Source
from mbtrain.data.splits import PARTS, Arrays, Part, Splits
from mbtrain.data.targets import labels_of
from mbtrain.plan.refused import Refused

# Held out for validation where the data set has no such part and `dataset.val_fraction` is null.
DEFAULT_VAL_FRACTION = 0.1


@dataclass(frozen=True)
class Options:
    """The keys of the group `dataset` that every data set has; DESIGN.md, section 3."""

    val_fraction: float | None = None
    test_fraction: float | None = None
    split_seed: int = 0
    train_size: int | None = None
    augment: Any = None
    workers: int | None = None
    normalize: bool | None = None


@dataclass(frozen=True)
class Data:
    """All that training needs to know of a data set.

    input_shape: of one sample; None where the input is a dict.
    num_outputs: classes, or width of the numbers; None where a Dataset does not say it.
    num_classes: None for numbers, and where a Dataset does not say it.
    columns: of the training part, by name: an array with one number a sample (`columns_of`).
    normalize: raw input -> what the model gets, with constants of the training part only.
    notes: lines worth telling the user.
    """

    train: Source
    validation: Source | None
    test: Source | None
    input_shape: tuple[int, ...] | None
    num_outputs: int | None
    num_classes: int | None
    columns: Mapping[str, np.ndarray]
    normalize: nn.Module
    augment: Augment | None
    notes: tuple[str, ...]


@dataclass(frozen=True)
class _Cut:
    """Some samples of a part of the data set."""

    part: Part
    indices: np.ndarray


def prepare(splits: Splits, options: Options, *, device: torch.device, dtype: torch.dtype) -> Data:
    """Hold out, measure, normalise and place the parts of `splits` (from `as_splits`); raises Refused.

    `options.workers=None` keeps arrays that fit as tensors on `device` and reads a map-style Dataset on demand; a
    number always reads on demand. Either way the same samples are seen with the same values, bit for bit.
    """
    notes = list(splits.notes)
    cuts = _cut(splits, options, notes)
    is_normalized = splits.normalize if options.normalize is None else options.normalize
    raw = DatasetSource(cuts["train"].part, cuts["train"].indices, normalize=nn.Identity(), dtype=dtype, device=device)
    normalize = _normalization(raw, is_normalized, dtype, notes).to(device)
    read = {
        name: DatasetSource(cut.part, cut.indices, normalize=normalize, dtype=dtype, device=device)
        for name, cut in cuts.items()
    }
    inputs, target = read["train"].convert(read["train"].fetch([0]))
    # Before the data are placed, which takes time: a wrong option is told at once.
    augment = augment_of(options.augment, inputs, device)
    sources = _place(read, options.workers, device, notes)
    return Data(
        train=sources["train"],
        validation=sources.get("validation"),
        test=sources.get("test"),
        input_shape=tuple(inputs.shape[1:]) if isinstance(inputs, Tensor) else None,
        num_outputs=_num_outputs(target, splits.num_classes),
        num_classes=splits.num_classes,
        columns=columns_of(cuts["train"].part, cuts["train"].indices),
        normalize=normalize,
        augment=augment,
        notes=tuple(notes),
    )


def _cut(splits: Splits, options: Options, notes: list[str]) -> dict[str, _Cut]:
    """The samples of each part: the data set's own, else test, then validation, held out of the training set."""
    whole = {name: getattr(splits, name) for name in PARTS}
    cuts = {name: _Cut(part, np.arange(len(part))) for name, part in whole.items() if part is not None}
    asked = (("test", "test_fraction", options.test_fraction), ("validation", "val_fraction", options.val_fraction))
    for stream, (name, key, fraction) in enumerate(asked):
        if name in cuts:
            if fraction is not None:
                raise Refused(f"dataset.{key}={fraction}: the data set has a {name} set of its own: leave it null")
            continue
        if fraction is None:
            fraction = DEFAULT_VAL_FRACTION if name == "validation" else 0
        num_held = num_held_out(len(cuts["train"].indices), fraction, name=key)
        if num_held > 0:
            cuts["train"], cuts[name] = _divide(cuts["train"], num_held, (options.split_seed, stream))
            total = len(cuts["train"].indices) + num_held
            notes.append(f"{name}: {num_held:,} of {total:,} training samples held out (dataset.{key}={fraction:g})")
    if options.train_size is not None:
        cuts["train"] = _shortened(cuts["train"], options.train_size, options.split_seed, notes)
    return cuts


def _shortened(train: _Cut, size: int, split_seed: int, notes: list[str]) -> _Cut:
    """So many samples of the training part, what is held out staying the same."""
    whole = len(train.indices)
    if size > whole:
        raise Refused(f"dataset.train_size={size}: there are {whole:,} training samples: give at most that")
    notes.append(f"train: {size:,} of {whole:,} samples used (dataset.train_size={size})")
    return _divide(train, size, (split_seed, len(PARTS)))[1] if size < whole else train


def _divide(train: _Cut, num_held: int, key: tuple[int, int]) -> tuple[_Cut, _Cut]:
    """(what is left, what is taken out) of the training part, stratified where its labels are known."""
    labels = labels_of(train.part)
    chosen = None if labels is None else labels.numpy()[train.indices]
    held = hold_out(len(train.indices), chosen, num_held=num_held, key=key)
    return _Cut(train.part, np.delete(train.indices, held)), _Cut(train.part, train.indices[held])


def _normalization(train: DatasetSource, is_normalized: bool, dtype: torch.dtype, notes: list[str]) -> nn.Module:
    first, _ = train.fetch([0])
    if not isinstance(first, Tensor):
        if is_normalized:
            raise Refused("dataset.normalize=true: the inputs are no tensors but a dict: normalise in the data set")
        return nn.Identity()
    if is_normalized:
        return fit_normalize((inputs for _, inputs, _ in train.chunks()), dtype=dtype)
    if is_image(first):
        return unit_range(dtype)
    if not first.is_floating_point():
        notes.append("whole-number inputs go to the model as ids (dataset.normalize=true makes numbers of them)")
    return nn.Identity()


def _place(
    read: dict[str, DatasetSource], workers: int | None, device: torch.device, notes: list[str]
) -> Mapping[str, Source]:
    """Where the parts live: all in memory or none, so that they are alike."""
    if workers is not None or not all(isinstance(source.dataset, Arrays) for source in read.values()):
        return read
    needed = sum(_num_bytes(source) for source in read.values())
    if needed <= free_bytes(device) // 4:
        return {name: source.load() for name, source in read.items()}
    notes.append(f"the data take {needed / 1e9:.1f} GB, over a quarter of the free memory: a DataLoader reads them")
    return read


def _num_bytes(source: DatasetSource) -> int:
    """Of the part once converted: one sample's bytes times their number."""
    sample = source.convert(source.fetch([0]))
    return len(source) * sum(tensor.numel() * tensor.element_size() for tensor in sample)


def _num_outputs(target: Any, num_classes: int | None) -> int | None:
    if num_classes is not None or not isinstance(target, Tensor) or not target.is_floating_point():
        return num_classes
    # Numbers: [1] is one number a sample, [1, k] is k of them.
    if target.ndim > 2:
        return None
    return 1 if target.ndim == 1 else target.shape[1]
