"""The values of finished runs as an array, and what becomes of the values of runs that diverged (NaN or infinite)."""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

Values = NDArray[np.float64]


def all_finite(values: ArrayLike) -> Values:
    """`values` in float64; a ValueError where one is NaN or infinite: no average hides a run that diverged."""
    array = np.asarray(values, dtype=np.float64)
    num_diverged = int((~np.isfinite(array)).sum())
    if num_diverged:
        raise ValueError(
            f"{num_diverged} of {array.size} values are not finite (runs that diverged): "
            f"split them off with without_diverged and report how many"
        )
    return array


def without_diverged(values: ArrayLike) -> tuple[Values, int]:
    """The finite ones of `values`, in their order, and the number of the others; None counts as diverged.

    >>> without_diverged([1.5, float("nan"), 1.25])
    (array([1.5 , 1.25]), 1)
    """
    given: Any = np.asarray(values, dtype=np.float64)
    kept = given[np.isfinite(given)]
    return kept, given.size - kept.size
