"""The order that draws samples by their weights (`sampler=weighted`)."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mbtrain.plan.classes import Classes, known
from mbtrain.plan.order import Indices, generator
from mbtrain.plan.refused import Refused

Weights = NDArray[np.float64]


class Weighted:
    """Draws in proportion to a weight of each sample; num_samples of them an epoch.

    weights: None is one over the number of samples in the sample's class, so that all classes are equally likely; a
    list has a weight for each class; `FILE.npy` one for each sample of the data set's training set, those that are held
    out of it included; another word is a column of the data set.

    With `replacement` the draws are independent. Without, each sample comes once, and the next is always drawn in
    proportion among those that are left, so that heavy ones come early (Efraimidis and Spirakis, Information Processing
    Letters 97, 2006); weights of 0 come last.
    """

    def __init__(
        self,
        *,
        seed: int,
        labels: NDArray[np.integer] | None,
        columns: Mapping[str, NDArray[np.number]],
        indices: NDArray[np.integer],
        weights: str | list[float] | None = None,
        replacement: bool = True,
    ) -> None:
        self._seed, self._replaces = seed, replacement
        if weights is None:
            classes = Classes(labels, name="weighted")
            self._weights = 1 / classes.counts[classes.codes]
        elif not isinstance(weights, str):
            self._weights = _checked(_of_classes(weights, known(labels, name="weighted")), weights)
        elif weights.endswith(".npy"):
            self._weights = _checked(_of_file(weights, indices), weights)
        else:
            self._weights = _checked(_of_column(weights, columns), weights)

    def __call__(self, epoch: int) -> Indices:
        """Indices of `epoch`, shape [num_samples]."""
        random = generator(self._seed, epoch)
        if self._replaces:
            reached = np.cumsum(self._weights)
            return np.searchsorted(reached / reached[-1], random.random(len(reached)), side="right")
        # The first of independent exponentials with these rates is each of them in proportion to its rate.
        with np.errstate(divide="ignore"):
            return np.argsort(random.standard_exponential(len(self._weights)) / self._weights, kind="stable")


def _of_classes(weights: object, labels: NDArray[np.integer]) -> NDArray[np.generic]:
    if not isinstance(weights, list) or not all(isinstance(one, int | float) for one in weights):
        raise Refused(f"sampler.weights={weights}: give null, a list of numbers, FILE.npy, or the name of a column")
    if len(weights) <= labels.max():
        raise Refused(
            f"sampler.weights: {len(weights)} weights for classes 0 to {labels.max()}: give one for each class, "
            "or FILE.npy with one for each sample"
        )
    return np.array(weights)[labels]


def _of_file(file: str, indices: NDArray[np.integer]) -> NDArray[np.generic]:
    try:
        weights = np.load(Path(file).expanduser(), allow_pickle=False)
    except (OSError, EOFError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise Refused(f"sampler.weights={file}: cannot be read ({reason}): save it with numpy.save") from None
    if weights.ndim != 1 or len(weights) <= indices.max():
        raise Refused(
            f"sampler.weights={file}: has shape {weights.shape}: give one weight for each sample of the training set, "
            "those that are held out of it included"
        )
    return weights[indices]


def _of_column(name: str, columns: Mapping[str, NDArray[np.number]]) -> NDArray[np.generic]:
    if name not in columns:
        raise Refused(
            f"sampler.weights={name}: the data set has no such column of one number a sample; it has "
            f"{', '.join(columns) or 'none'} (a file's name ends in .npy)"
        )
    return columns[name]


def _checked(weights: NDArray[np.generic], given: object) -> Weights:
    numbers = weights.astype(np.float64) if weights.dtype.kind in "iuf" else np.array([np.nan])
    if not np.isfinite(numbers).all() or (numbers < 0).any() or not numbers.any():
        raise Refused(f"sampler.weights={given}: weights are finite numbers of at least 0, and not all 0")
    return numbers
