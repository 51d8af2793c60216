"""Hands out the mini-batches of an epoch from where the clock stands, and cuts them into micro-batches on the way."""

import random
import time
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from mbtrain.core.random import FETCH, mix
from mbtrain.data.augment import Augment
from mbtrain.data.order_ahead import OrderAhead
from mbtrain.data.sources import DatasetSource, MemorySource, Source
from mbtrain.plan.batch import MicroBatch, interleaved
from mbtrain.plan.order import Indices
from mbtrain.plan.run import Iteration, RunPlan

Cut = Callable[[int], Sequence[MicroBatch]]
Order = Callable[[int], Indices]
# Mini-batches whose indices are cut out at once.
MOST_AHEAD = 64


class Micro(NamedTuple):
    """A micro-batch in the model's order: its BN groups, if there are several, are interleaved."""

    inputs: Any
    target: Tensor
    groups: tuple[int, ...]


class Part(NamedTuple):
    """A micro-batch before it is gathered: where its samples lie, what was drawn for them, its BN groups."""

    places: Any
    draws: dict[str, Tensor]
    groups: tuple[int, ...]


class MiniBatch:
    """One iteration's samples; its micro-batches are gathered one by one, when they are asked for."""

    def __init__(
        self,
        iteration: Iteration,
        micro_batches: Sequence[MicroBatch],
        places: Sequence[Tensor | slice],
        gather: Callable[[Any], tuple[Any, Tensor]],
        indices: Tensor | None,
        augment: Augment | None,
        device: torch.device,
    ) -> None:
        self.iteration, self.num_micro_batches, self.device = iteration, len(micro_batches), device
        self.waited_s = 0.0  # by the host, for workers to bring it
        self._micro_batches, self._gather, self._indices, self._augment = micro_batches, gather, indices, augment
        self._places = places

    @property
    def indices(self) -> Tensor:
        """Where its samples lie in the memory of the training part."""
        assert self._indices is not None
        return self._indices

    def of(self, indices: Tensor) -> "MiniBatch":
        """A mini-batch cut like this one, of the samples at `indices`."""
        return MiniBatch(
            self.iteration, self._micro_batches, self._places, self._gather, indices, self._augment, self.device
        )

    def micro_batches(self) -> Iterator[Micro]:
        """The micro-batches, in order."""
        for part in self.parts():
            yield self.read(part)

    def parts(self) -> Iterator[Part]:
        """What `read` makes them of. What is random is drawn for the whole mini-batch first, so no cut changes it."""
        draws = {} if self._augment is None else self._augment.draw(self.iteration.size, None)
        for micro, places in zip(self._micro_batches, self._places, strict=True):
            mine = {name: values[places] for name, values in draws.items()} if draws else draws
            yield Part(self._where(places), mine, micro.groups)

    def read(self, part: Part) -> Micro:
        """Gather a part of this mini-batch, or of another of the run, and augment it."""
        inputs, target = self._gather(part.places)
        if self._augment is not None:
            inputs = self._augment.apply(inputs, part.draws)
        return Micro(inputs, target, part.groups)

    def _where(self, places: Tensor | slice) -> Tensor | slice:
        """What to gather, given places in the mini-batch."""
        if self._indices is None:
            return places
        return self._indices if self.num_micro_batches == 1 and isinstance(places, slice) else self._indices[places]

    def cut_into(self, micro_batches: Sequence[MicroBatch]) -> "MiniBatch":
        """The same samples, cut in another way."""
        places = places_of(tuple(micro_batches), self.device)
        cut = MiniBatch(self.iteration, micro_batches, places, self._gather, self._indices, self._augment, self.device)
        cut.waited_s = self.waited_s
        return cut

    def positions(self, number: int) -> list[int]:
        """Where the samples of micro-batch `number` stand in the mini-batch, in the order that the model gets them."""
        places = self._places[number]
        return list(range(places.start, places.stop)) if isinstance(places, slice) else places.tolist()


class Clock(Protocol):
    """What a loader asks: how many iterations are done, of which plan."""

    done: int
    plan: RunPlan


class Loader:
    """An iterable of the mini-batches of the present epoch; `len` is what a full one has."""

    def __init__(
        self,
        source: Source,
        clock: Clock,
        order: Order,
        cut: Cut,
        *,
        device: torch.device,
        augment: Augment | None,
        seed: int,
        workers: int,
    ) -> None:
        self._source, self._clock, self._order, self._cut, self._augment = source, clock, order, cut, augment
        self._device, self._seed = device, seed
        self._order_ahead = OrderAhead(order)
        # By size: found once, where hashing a cut each time takes longer than all else that is done here.
        self._cut_into = lru_cache(maxsize=64)(self._cut_and_places)
        self._jobs = _Jobs(self)
        self._loader = None
        if isinstance(source, DatasetSource):
            self._loader = DataLoader(
                Fetched(source, seed),
                batch_size=None,
                sampler=self._jobs,
                num_workers=workers,
                persistent_workers=workers > 0,
                pin_memory=device.type == "cuda",
            )

    def __len__(self) -> int:
        plan, done = self._clock.plan, self._clock.done
        return plan.iterations_in(plan.iteration(done).epoch)

    def __iter__(self) -> Iterator[MiniBatch]:
        if self._loader is None:
            yield from self._from_memory()
        else:
            yield from self._from_workers()

    def close(self) -> None:
        """End the workers now: left to the garbage collector, each takes five seconds to be given up."""
        self._loader = None
        self._order_ahead.close()

    def iterations(self) -> Iterator[Iteration]:
        """What is left of the present epoch, up to the end of the run."""
        plan, index = self._clock.plan, self._clock.done
        while index < plan.num_iterations:
            iteration = plan.iteration(index)
            yield iteration
            if iteration.is_last_of_epoch:
                return
            index += 1

    def first(self, size: int) -> MiniBatch:
        """The run's first `size` samples as one mini-batch, read here and now."""
        iteration, positions = self._clock.plan.iteration(0)._replace(size=size), self._order(0)[:size]
        if isinstance(self._source, MemorySource):
            return self.mini_batch(iteration, torch.from_numpy(np.ascontiguousarray(positions)).to(self._device))
        return self._fetched(iteration, Fetched(self._source, self._seed)[(0, positions.tolist())])

    def sample_ids(self, iteration: Iteration) -> list[int]:
        """Which samples of the data set's training part an iteration sees."""
        positions = self._order(iteration.epoch)[iteration.start : iteration.start + iteration.size]
        return self._source.indices[positions].tolist()

    def jobs(self) -> Iterator[tuple[int, list[int]]]:
        """(iteration, sample positions) of each mini-batch to come, for the workers."""
        order: Indices | None = None
        for iteration in self.iterations():
            order = self._order_of(iteration.epoch) if order is None else order
            yield iteration.index, order[iteration.start : iteration.start + iteration.size].tolist()

    def mini_batch(self, iteration: Iteration, indices: Tensor) -> MiniBatch:
        """The mini-batch of the samples at `indices` [n], where the data are in memory."""
        assert isinstance(self._source, MemorySource)
        cut, places = self._cut_into(iteration.size)
        return MiniBatch(iteration, cut, places, self._source.gather, indices, self._augment, self._device)

    def _cut_and_places(self, size: int) -> tuple[Sequence[MicroBatch], Sequence[Tensor | slice]]:
        cut = self._cut(size)
        return cut, places_of(cut, self._device)

    def _order_of(self, epoch: int) -> Indices:
        """Of an epoch about to begin."""
        return self._order_ahead(epoch, is_last=epoch + 1 >= self._clock.plan.num_epochs)

    def _from_memory(self) -> Iterator[MiniBatch]:
        order: Tensor | None = None
        ahead, size = list[Tensor](), 0
        for iteration in self.iterations():
            if order is None:
                order = torch.from_numpy(np.ascontiguousarray(self._order_of(iteration.epoch))).to(self._device)
            if not ahead or iteration.size != size:
                # Where the size moves, the next one may be another again.
                most = MOST_AHEAD if iteration.size in (size, iteration.batch_size) else 1
                size = iteration.size
                ahead = _next_ones(order[iteration.start :], size, most)
            yield self.mini_batch(iteration, ahead.pop())

    def _from_workers(self) -> Iterator[MiniBatch]:
        plan, is_over = self._clock.plan, False
        assert self._loader is not None
        while not is_over:
            seen, batches = plan.num_changes, iter(self._loader)
            for iteration in self.iterations():
                started = time.perf_counter()
                mini_batch = self._fetched(iteration, next(batches))
                mini_batch.waited_s = time.perf_counter() - started
                yield mini_batch
                is_over = iteration.is_last_of_epoch or self._clock.done >= plan.num_iterations
                # The workers have gone ahead by the sizes of before: what they fetched is left.
                if plan.num_changes != seen:
                    break

    def _fetched(self, iteration: Iteration, batch: Any) -> MiniBatch:
        source, device = self._source, self._device
        assert isinstance(source, DatasetSource)

        def gather(places: Tensor | slice) -> tuple[Any, Tensor]:
            return source.convert(_part(batch, places if isinstance(places, slice) else places.cpu()), device)

        cut, places = self._cut_into(iteration.size)
        return MiniBatch(iteration, cut, places, gather, None, self._augment, device)


class Batches:
    """A whole set in order, in batches of at most `batch_size`, for validation and test."""

    def __init__(self, source: Source, batch_size: int, *, device: torch.device, workers: int) -> None:
        self._source, self._device = source, device
        edges = range(0, len(source), batch_size)
        self._ranges = [(start, min(start + batch_size, len(source))) for start in edges]
        self._loader = None
        if isinstance(source, DatasetSource):
            jobs = [(0, list(range(*one))) for one in self._ranges]
            self._loader = DataLoader(Fetched(source, 0), batch_size=None, sampler=jobs, num_workers=workers)

    def __len__(self) -> int:
        return len(self._ranges)

    def __iter__(self) -> Iterator[tuple[Any, Tensor]]:
        if self._loader is None:
            assert isinstance(self._source, MemorySource)
            for start, stop in self._ranges:
                yield self._source.slice(start, stop)
        else:
            assert isinstance(self._source, DatasetSource)
            for batch in self._loader:
                yield self._source.convert(batch, self._device)


class _Jobs:
    """The DataLoader's sampler: asks the loader anew in every epoch."""

    def __init__(self, loader: Loader) -> None:
        self._loader = loader

    def __iter__(self) -> Iterator[tuple[int, list[int]]]:
        return self._loader.jobs()


class Fetched(Dataset[Any]):
    """Fetches a whole mini-batch; what the user's data set draws depends on (seed, iteration), not on the worker."""

    def __init__(self, source: DatasetSource, seed: int) -> None:
        self._source, self._seed = source, seed

    def __getitem__(self, job: tuple[int, list[int]]) -> tuple[Any, Tensor]:
        index, positions = job
        value = mix(self._seed, FETCH, index)
        random.seed(value)
        np.random.seed(value & 0xFFFFFFFF)
        torch.default_generator.manual_seed(value)
        return self._source.fetch(positions)


def _next_ones(order: Tensor, size: int, most: int) -> list[Tensor]:
    """Up to `most` mini-batches that come next in the order, the first one last: one by one takes four times longer."""
    number = max(1, min(most, len(order) // size))
    return list(order[: number * size].split(size))[::-1]


@lru_cache(maxsize=1024)
def places_of(micro_batches: Sequence[MicroBatch], device: torch.device) -> tuple[Tensor | slice, ...]:
    """Where each micro-batch's samples stand in the mini-batch, in the order in which the model gets them."""
    return tuple(_places(micro, device) for micro in micro_batches)


def _places(micro: MicroBatch, device: torch.device) -> Tensor | slice:
    order = interleaved(micro.groups)
    return slice(micro.start, micro.stop) if order is None else torch.tensor(order, device=device) + micro.start


def _part(batch: Any, places: Tensor | slice) -> Any:
    """A micro-batch of a collated mini-batch on the host, which may hold dicts and tuples."""
    if isinstance(batch, Tensor):
        return batch[places]
    if isinstance(batch, dict):
        return {name: _part(value, places) for name, value in batch.items()}
    if isinstance(batch, tuple | list):
        return tuple(_part(value, places) for value in batch)
    raise ValueError(f"a data set gave a {type(batch).__name__}, which cannot be cut into micro-batches")
