"""A dry run: whole updates of the true model at some micro size, all of it taken back afterwards."""

import gc
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext

import torch
from torch import Tensor

from mbtrain.core.gradient import mean_gradient
from mbtrain.core.out_of_memory import is_out_of_memory
from mbtrain.core.random import seed_iteration
from mbtrain.data.loader import Micro, MiniBatch
from mbtrain.plan.batch import MicroBatch
from mbtrain.training.forward import Forward
from mbtrain.training.kept import KeptState, kept_generators
from mbtrain.training.update import Update

HALF = {"bf16-mixed": torch.bfloat16, "16-mixed": torch.float16}


class DryRun:
    """Does the updates of one mini-batch as the run would: forward, backward, optimizer step.

    The learning rate is 0: the same kernels and the same memory, and numbers that stay sane however often it is done.
    """

    def __init__(
        self,
        mini_batch: MiniBatch,
        forward: Forward,
        update: Update,
        *,
        seed: int,
        precision: str,
    ) -> None:
        self._mini_batch, self._forward, self._update = mini_batch, forward, update
        self._seed, self._precision = seed, precision
        self._trained = [one for one in forward.model.parameters() if one.requires_grad]

    def runs(self, micro_batches: Sequence[MicroBatch]) -> bool:
        """Whether memory is enough for two updates: from the second on the optimizer's state is there all along."""
        with self.taken_back():
            is_enough = self._has_done(micro_batches) and self._has_done(micro_batches)
        return is_enough

    def seconds(self, micro_batches: Sequence[MicroBatch]) -> float | None:
        """How long one update takes, inside a `taken_back` block; None where memory is not enough."""
        self._wait()
        start = time.perf_counter()
        is_done = self._has_done(micro_batches)
        self._wait()
        return time.perf_counter() - start if is_done else None

    @contextmanager
    def taken_back(self) -> Iterator[None]:
        """After the block weights, buffers, optimizer and generators are bit for bit what they were."""
        groups, update = self._forward.groups, self._update
        sizes, state = groups.sizes, KeptState(self._forward.model, update.optimizer, update.ema)
        try:
            with kept_generators(self._mini_batch.device):
                yield
        finally:
            state.put_back()
            groups.sizes = sizes
            clear_memory()

    def _has_done(self, micro_batches: Sequence[MicroBatch]) -> bool:
        try:
            self._do(self._mini_batch.cut_into(micro_batches))
        except Exception as error:
            if not is_out_of_memory(error):
                raise
        else:
            return True
        # Only here is the error gone, and with it the frames that hold the activations.
        clear_memory()
        return False

    def _do(self, mini_batch: MiniBatch) -> None:
        outputs: list[Tensor] = []  # held to the end, as the run's recorder does

        def evaluate(micro: Micro) -> tuple[Tensor, Tensor | None]:
            output, values, weights = self._forward(micro)
            outputs.append(output.detach())
            return values, weights

        seed_iteration(self._seed, mini_batch.iteration.index, mini_batch.device)
        with autocast(self._mini_batch.device, self._precision):
            number = mini_batch.num_micro_batches
            result = mean_gradient(mini_batch.micro_batches(), evaluate, self._trained, num_micro_batches=number)
            self._update.set_gradient(result.gradient)
            self._update.step(lr=0.0, num_samples=mini_batch.iteration.size)

    def _wait(self) -> None:
        if self._mini_batch.device.type == "cuda":
            torch.cuda.synchronize(self._mini_batch.device)


def autocast(device: torch.device, precision: str) -> AbstractContextManager[object]:
    """What Lightning's precision plugin puts around a forward pass."""
    half = HALF.get(precision)
    return nullcontext() if half is None else torch.autocast(device.type, dtype=half)


def clear_memory() -> None:
    """Give back what nothing refers to any more, before the next try is measured by what is left."""
    # What a failed pass leaves is young; a whole collection takes half a second beside torch's own objects.
    gc.collect(1)
    if torch.cuda.is_initialized():
        torch.cuda.empty_cache()
