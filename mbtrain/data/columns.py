"""What is known of each sample besides its input: its class, its length, and columns that the data set names."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from torch.utils.data import Subset

from mbtrain.data.targets import labels_of


def columns_of(part: Any, indices: np.ndarray) -> dict[str, np.ndarray]:
    """Arrays [len(indices)] by name, read without reading a sample: what orders may ask for.

    `labels` are its class labels, `lengths` its attribute of that name, the others are in its attribute `columns`, a
    mapping. What is not one number a sample is no column.
    """
    labels = labels_of(part)
    columns = _named(part) | ({} if labels is None else {"labels": labels.numpy()})
    return {name: values[indices] for name, values in columns.items()}


def _named(part: Any) -> dict[str, np.ndarray]:
    if isinstance(part, Subset):
        return {name: values[np.asarray(part.indices)] for name, values in _named(part.dataset).items()}
    own = getattr(part, "columns", None)
    found = dict(own) if isinstance(own, Mapping) else {}
    arrays = {name: np.asarray(values) for name, values in found.items()}
    arrays["lengths"] = np.asarray(getattr(part, "lengths", None))
    return {name: values for name, values in arrays.items() if _is_column(values, len(part))}


def _is_column(values: np.ndarray, num_samples: int) -> bool:
    return values.shape == (num_samples,) and values.dtype.kind in "iuf"
