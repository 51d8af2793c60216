"""Where the samples of a part come from: tensors on the device, or a map-style Dataset read on demand."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import default_collate

from mbtrain.data.splits import Arrays
from mbtrain.plan.refused import Refused

# Rows read at once while a part is measured or loaded: bounds the temporary copies.
CHUNK_SIZE = 2048


class MemorySource:
    """A part whose samples are tensors on the training device, normalised: a mini-batch is one `index_select`."""

    def __init__(self, x: Tensor, y: Tensor, indices: np.ndarray) -> None:
        self.x, self.y = x, y
        self.indices = indices  # [n] of this part's samples in the data set

    def __len__(self) -> int:
        return self.x.shape[0]

    def gather(self, indices: Tensor) -> tuple[Tensor, Tensor]:
        """The samples at `indices`, an integer tensor on the same device."""
        return self.x.index_select(0, indices), self.y.index_select(0, indices)

    def read(self, positions: Sequence[int]) -> tuple[Tensor, Tensor]:
        """The samples at these positions."""
        return self.gather(torch.tensor(positions, device=self.x.device))

    def slice(self, start: int, stop: int) -> tuple[Tensor, Tensor]:
        """The samples from `start` to before `stop`, without a copy."""
        return self.x[start:stop], self.y[start:stop]


class DatasetSource:
    """A part whose samples are read from arrays or a map-style Dataset, batch by batch, in workers if one likes.

    `fetch` gives raw batches on the host (this is what a worker runs), `convert` makes of them what the model gets.
    """

    def __init__(
        self, dataset: Any, indices: np.ndarray, *, normalize: nn.Module, dtype: torch.dtype, device: torch.device
    ) -> None:
        self.dataset = dataset
        self.indices = indices  # [n] of this part's samples in the data set
        # A copy of our own: the model's module takes its normalisation to other devices.
        self.normalize = copy.deepcopy(normalize).to(device)
        self.dtype, self.device = dtype, device

    def __len__(self) -> int:
        return len(self.indices)

    def fetch(self, positions: Sequence[int] | np.ndarray) -> tuple[Any, Any]:
        """The raw batch (input, target) at these positions of the part, collated, on the host."""
        chosen = self.indices[np.asarray(positions, dtype=np.int64)]
        if isinstance(self.dataset, Arrays):
            return self.dataset.take(chosen)
        numbers = chosen.tolist()
        read_many = getattr(self.dataset, "__getitems__", None)
        samples = read_many(numbers) if read_many else [self.dataset[number] for number in numbers]
        return _collate(samples)

    def convert(self, batch: tuple[Any, Any], device: torch.device | None = None) -> tuple[Any, Any]:
        """Move a raw batch to the training device, normalise its input and give every float the training's dtype."""
        inputs, target = _map_tensors(batch, lambda tensor: tensor.to(device or self.device, non_blocking=True))
        if isinstance(inputs, Tensor):
            inputs = self.normalize(inputs)
        return _map_tensors((inputs, target), self._cast)

    def read(self, positions: Sequence[int]) -> tuple[Any, Any]:
        """The samples at these positions, as the model gets them."""
        return self.convert(self.fetch(positions))

    def chunks(self) -> Iterator[tuple[int, Any, Any]]:
        """All raw batches (start, input, target) of the part in order."""
        for start in range(0, len(self), CHUNK_SIZE):
            yield start, *self.fetch(np.arange(start, min(start + CHUNK_SIZE, len(self))))

    def load(self) -> MemorySource:
        """The same values, bit for bit, as tensors on the device: every chunk goes through `convert`."""
        x = y = torch.empty(0)
        for start, *raw in self.chunks():
            inputs, target = self.convert((raw[0], raw[1]))
            if start == 0:
                x, y = (values.new_empty(len(self), *values.shape[1:]) for values in (inputs, target))
            x[start : start + len(inputs)], y[start : start + len(inputs)] = inputs, target
        return MemorySource(x, y, self.indices)

    def __getstate__(self) -> dict[str, Any]:
        # What a worker gets: it only fetches, and constants on a GPU must not travel to another process.
        return {**self.__dict__, "normalize": None}

    def _cast(self, tensor: Tensor) -> Tensor:
        # Whole numbers are ids or labels: int64 is what embeddings and losses take.
        return tensor.to(self.dtype) if tensor.is_floating_point() else tensor.long()


Source = MemorySource | DatasetSource


def _collate(samples: list[Any]) -> tuple[Any, Any]:
    try:
        batch = default_collate(samples)
    except (TypeError, RuntimeError) as error:
        reason = str(error).splitlines()[0]
        raise Refused(
            f"dataset: its samples cannot be stacked ({reason}): give tensors, arrays or numbers of one shape"
        ) from error
    if isinstance(batch, Mapping) and "target" in batch:
        rest = {name: values for name, values in batch.items() if name != "target"}
        return (rest["input"] if rest.keys() == {"input"} else rest), batch["target"]
    if isinstance(batch, list | tuple) and len(batch) == 2:
        return batch[0], batch[1]
    raise Refused(
        f"dataset: a sample is a {type(samples[0]).__name__}: give (input, target), or a dict with a key target"
    )


def _map_tensors(structure: Any, change: Callable[[Tensor], Tensor]) -> Any:
    if isinstance(structure, Tensor):
        return change(structure)
    if isinstance(structure, Mapping):
        return {name: _map_tensors(value, change) for name, value in structure.items()}
    if isinstance(structure, list | tuple):
        return tuple(_map_tensors(value, change) for value in structure)
    return structure
