"""Fixed samples of the training set, for probes that measure on the same ones every time."""

from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np
from torch import Tensor


class TrainingSet(Protocol):
    """The training samples by position: as the model gets them, on its device, without augmentation."""

    def __len__(self) -> int:
        """How many there are."""
        ...

    def read(self, positions: Sequence[int]) -> tuple[Any, Tensor]:
        """(inputs, target) of the samples at `positions`."""
        ...


class Part(NamedTuple):
    """Samples that go through the model together; `groups` are their BN groups, empty for a single one."""

    inputs: Any
    target: Tensor
    groups: tuple[int, ...] = ()


def fixed_parts(train: TrainingSet, *, num_samples: int, part_size: int, seed: int = 0) -> list[Part]:
    """`num_samples` drawn once from `train` (all of it where it has fewer), in parts of at most `part_size`."""
    drawn = np.random.default_rng(seed).permutation(len(train))[:num_samples].tolist()
    return [Part(*train.read(drawn[start : start + part_size])) for start in range(0, len(drawn), part_size)]
