"""The targets of a part: which are class labels, how many classes there are, and whether the labels are sound."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Subset

from mbtrain.plan.refused import Refused

# The target that torch's losses leave out, legal where one sample has many targets.
IGNORED = -100


def targets_of(part: Any) -> Tensor | None:
    """All targets of a part without reading its samples, by its attribute `targets`; None where unknown."""
    if isinstance(part, Subset):
        inner = targets_of(part.dataset)
        return None if inner is None else inner[torch.as_tensor(list(part.indices))]
    targets = getattr(part, "targets", None)
    if targets is None:
        return None
    if not isinstance(targets, Tensor):
        array = np.array(targets)
        if array.dtype.kind not in "biuf":
            return None
        targets = torch.from_numpy(array)
    if len(targets) != len(part):
        raise Refused(f"dataset: {len(targets)} targets for {len(part)} samples: give one target for each sample")
    return targets if targets.is_floating_point() else targets.long()


def labels_of(part: Any) -> Tensor | None:
    """The int64 class labels [n] of a part; None for numbers, for many labels a sample, and where unknown."""
    targets = targets_of(part)
    return None if targets is None or targets.is_floating_point() or targets.ndim != 1 else targets


def check_labels(parts: Mapping[str, Any], num_classes: int | None) -> int | None:
    """Refuse labels that are negative, beyond the classes, or all one class; returns the number of classes.

    None for numbers, and where a Dataset says neither `targets` nor `classes` nor `num_classes`.
    """
    declared = _declared(parts["train"]) if num_classes is None else num_classes
    classes = {name: _classes(part, name) for name, part in parts.items() if part is not None}
    known = {name: labels for name, labels in classes.items() if labels is not None}
    if "train" not in known:
        return declared
    counted = 1 + max(int(labels.max()) for labels in known.values())
    if declared is None and counted > max(100_000, sum(len(labels) for labels in known.values())):
        raise Refused(f"dataset: the highest label is {counted - 1}, so there were more classes than samples: renumber")
    num_classes = counted if declared is None else declared
    for name, labels in known.items():
        if int(labels.max()) >= num_classes:
            row = int((labels.flatten(1) if labels.ndim > 1 else labels[:, None]).amax(1).argmax())
            raise Refused(
                f"dataset: y of {name} holds the label {int(labels.max())} in row {row}: "
                f"{num_classes} classes have labels from 0 to {num_classes - 1}"
            )
    train = known["train"]
    if train.ndim == 1 and bool((train == train[0]).all()):
        raise Refused(f"dataset: every y of train is {int(train[0])}: classes need at least two, numbers a float y")
    return num_classes


def _declared(train: Any) -> int | None:
    while isinstance(train, Subset):
        train = train.dataset
    num_classes, classes = getattr(train, "num_classes", None), getattr(train, "classes", None)
    if num_classes is not None:
        return int(num_classes)
    return None if classes is None else len(classes)


def _classes(part: Any, name: str) -> Tensor | None:
    targets = targets_of(part)
    if targets is None or targets.is_floating_point():
        return None
    sound = targets >= 0
    if targets.ndim > 1:
        sound |= targets == IGNORED
    if not bool(sound.all()):
        row = int(sound.flatten(1).all(1).long().argmin()) if targets.ndim > 1 else int(sound.long().argmin())
        raise Refused(f"dataset: y of {name} holds a negative label in row {row}: labels are counted from 0")
    return targets
