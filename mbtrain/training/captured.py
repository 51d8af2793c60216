"""An iteration captured as a CUDA graph: one launch replays it, however many kernels it holds.

What a replay reads and writes stays where it is: weights and state do anyway, the mini-batch's indices and the learning
rate are copied there before, and what is left for the row goes into a ring on the device, whose turns a counter on the
device takes. Nothing waits for the device. The order of the stream keeps a place of the ring until the recorder has
stacked it: it never holds more iterations than the ring has places.

Where there is no GPU the tests record tensor operations and replay only these; `pytest -m gpu` has passed on an
NVIDIA H200.
"""

import copy
import random
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from mbtrain.data.loader import MiniBatch
from mbtrain.training.forward import Forward
from mbtrain.training.kept import attributes
from mbtrain.training.recorder import most_iterations
from mbtrain.training.step import Done

NUM_WARM_UPS = 3


class Captured:
    """`iterate` for mini-batches cut like `example`, with the learning rate in `lr` (0-d, on the device)."""

    def __init__(self, iterate: Callable[[MiniBatch, Tensor], Done], example: MiniBatch, lr: Tensor) -> None:
        self._indices = example.indices.clone()
        self._mini_batch, self._iterate, self._lr = example.of(self._indices), iterate, lr
        left = iterate(self._mini_batch, lr)
        self._weight = left.weight
        # The recorder stacks these at the latest before one more is made.
        self._size = most_iterations(left.pairs)
        self._rings = [one.new_zeros(self._size, *one.shape) for one in _tensors(left)]
        self._place, self._next = torch.zeros(1, dtype=torch.long, device=example.device), 0
        self._replay = capture(self._run)
        # A capture runs nothing, what went before it did.
        self._place.zero_()

    def __call__(self, mini_batch: MiniBatch, lr: Tensor) -> Done:
        """One iteration, update included; what it leaves are views into the ring."""
        self._indices.copy_(mini_batch.indices)
        self._replay()
        place, self._next = self._next, (self._next + 1) % self._size
        return self._done([ring[place] for ring in self._rings])

    @torch.no_grad()
    def _run(self) -> None:
        with torch.enable_grad():
            left = self._iterate(self._mini_batch, self._lr)
        for ring, one in zip(self._rings, _tensors(left), strict=True):
            ring.index_copy_(0, self._place, one.detach()[None])
        self._place.add_(1).remainder_(self._size)

    def _done(self, left: list[Tensor]) -> Done:
        losses = left.pop(0)
        weight = left.pop(0) if isinstance(self._weight, Tensor) else self._weight
        norm = left.pop() if len(left) % 2 else None
        return Done(losses, weight, list(zip(left[::2], left[1::2], strict=True)), norm)


def held_by(forward: Forward) -> dict[str, Any]:
    """By name, what each parameter, buffer and attribute of model and loss is: which tensor, or which plain value."""
    modules = [one for one in (forward.model, forward.loss) if isinstance(one, nn.Module)]
    return {
        f"{type(root).__name__}.{path}.{name}".replace("..", "."): id(one)
        if isinstance(one, Tensor)
        else copy.deepcopy(one)
        for root in modules
        for path, module in root.named_modules()
        for name, one in {**module._parameters, **module._buffers, **dict(attributes(module))}.items()
    }


def host_generators(device: torch.device) -> tuple[Any, ...]:
    """Where the generators stand that a graph does not draw from."""
    numpy = np.random.get_state(legacy=False)["state"]
    on_cpu = torch.default_generator.get_state().numpy().tobytes() if device.type == "cuda" else b""
    return random.getstate(), numpy["key"].tobytes(), numpy["pos"], on_cpu


@contextmanager
def waiting_for_nothing(device: torch.device) -> Iterator[None]:
    """Whatever waits for the GPU in here raises; a capture that fails would leave torch's generator marked."""
    if device.type != "cuda":
        yield
        return
    _let_wait("error")
    try:
        yield
    finally:
        _let_wait("default")


def _let_wait(mode: str) -> None:
    with warnings.catch_warnings(action="ignore"):  # that the mode is a prototype
        torch.cuda.set_sync_debug_mode(mode)


def _tensors(done: Done) -> list[Tensor]:
    weight = [done.weight] if isinstance(done.weight, Tensor) else []
    norm = [] if done.norm is None else [done.norm]
    return [done.losses, *weight, *(one for pair in done.pairs for one in pair), *norm]


def capture(run: Callable[[], None]) -> Callable[[], None]:
    """What replays `run`, captured after warm-up on a stream of its own, as torch.cuda.graph asks for."""
    current, aside = torch.cuda.current_stream(), torch.cuda.Stream()
    aside.wait_stream(current)
    with torch.cuda.stream(aside):
        for _ in range(NUM_WARM_UPS):
            run()
    current.wait_stream(aside)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        run()
    return graph.replay
