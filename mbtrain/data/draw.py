"""A fixed draw of training samples, cut as the run's mini-batches are: what batch norm is recalibrated on."""

from collections.abc import Iterator

import numpy as np
import torch

from mbtrain.core.random import mix
from mbtrain.data.loader import Cut, Fetched
from mbtrain.data.sources import MemorySource, Source
from mbtrain.plan.order import Indices, generator

DRAW_STREAM = 11


class Draw:
    """`num_samples` samples of a part without repeats, by `seed` alone: the same at every call, not augmented.

    They come in whole mini-batches of at most `batch_size`, cut by `cut`; what is left over is left out, so that no BN
    group is smaller than one of training.
    """

    def __init__(self, source: Source, cut: Cut, *, num_samples: int, batch_size: int, seed: int) -> None:
        self._source, self._cut, self._seed = source, cut, mix(seed, DRAW_STREAM)
        self._size = min(batch_size, num_samples, len(source))
        positions = generator(self._seed, 0).permutation(len(source))[:num_samples]
        self.positions: Indices = positions[: len(positions) // self._size * self._size]

    def __call__(self) -> Iterator[tuple[object, tuple[int, ...]]]:
        """(inputs, sizes of BN groups) of each micro-batch."""
        for start in range(0, len(self.positions), self._size):
            for micro in self._cut(self._size):
                yield self._inputs(self.positions[start + micro.start : start + micro.stop]), micro.groups

    def _inputs(self, positions: Indices) -> object:
        source = self._source
        if isinstance(source, MemorySource):
            return source.gather(torch.from_numpy(np.ascontiguousarray(positions)).to(source.x.device))[0]
        # Seeded by place: a data set that draws random numbers gives the same each time.
        return source.convert(Fetched(source, self._seed)[int(positions[0]), positions.tolist()])[0]
