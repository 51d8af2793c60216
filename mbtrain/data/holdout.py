"""The samples that are held out of a training set: which ones, from `split_seed` alone."""

from __future__ import annotations

import numpy as np

from mbtrain.plan.refused import Refused


def hold_out(num_samples: int, labels: np.ndarray | None, *, num_held: int, key: tuple[int, int]) -> np.ndarray:
    """Ascending indices of the `num_held` samples that are held out; stratified where `labels` [n] are given.

    The samples are ranked by Philox's raw words, which numpy keeps the same for ever (`permutation` it may change).

    >>> hold_out(6, np.array([0, 0, 0, 0, 1, 1]), num_held=3, key=(0, 1)).size
    3
    """
    words = np.random.Philox(key=np.array(key, dtype=np.uint64)).random_raw(num_samples)
    if labels is None:
        return np.sort(np.argsort(words, kind="stable")[:num_held])
    classes, members = np.unique(labels, return_inverse=True)
    counts = np.bincount(members, minlength=len(classes))
    order = np.lexsort((words, members))  # class by class, at random within
    starts = np.cumsum(counts) - counts
    shares = largest_remainder(counts, num_held)
    held = [order[start : start + share] for start, share in zip(starts, shares, strict=True)]
    return np.sort(np.concatenate(held))


def largest_remainder(counts: np.ndarray, total: int) -> np.ndarray:
    """Share `total` among classes in proportion to their `counts`, in whole numbers, exactly.

    >>> largest_remainder(np.array([5, 3, 2]), 3)
    array([1, 1, 1])
    """
    # Python's integers: counts * total may exceed 64 bits nowhere in practice, and this cannot even then.
    whole = int(counts.sum())
    shares = np.array([int(count) * total // whole for count in counts])
    remainders = np.array([int(count) * total % whole for count in counts])
    largest = np.argsort(-remainders, kind="stable")[: total - int(shares.sum())]
    shares[largest] += 1
    return shares


def num_held_out(num_samples: int, fraction: float, *, name: str) -> int:
    """How many samples `dataset.<name>=fraction` holds out; refused where either side would be empty."""
    if not 0 <= fraction < 1:
        raise Refused(f"dataset.{name}={fraction}: it must be at least 0 and less than 1")
    num_held = round(fraction * num_samples)
    if fraction > 0 and not 0 < num_held < num_samples:
        raise Refused(
            f"dataset.{name}={fraction}: of {num_samples} samples it holds out {num_held}, leaving one side empty: "
            "give 0 or another fraction"
        )
    return num_held
