"""`batch.micro_size=auto` in mid-run: where memory runs out, the same mini-batch again in smaller micro-batches."""

from collections.abc import Callable
from typing import TypeVar

from torch import nn

from mbtrain.core.out_of_memory import is_out_of_memory
from mbtrain.data.loader import MiniBatch
from mbtrain.plan.failed import Failed
from mbtrain.plan.micro_sizes import MicroSizes, cut_at, halved
from mbtrain.training.dry_run import clear_memory
from mbtrain.training.kept import KeptBuffers

T = TypeVar("T")
CURE = "set trainer.activation_checkpointing=true"


class Halving:
    """Gives the gradient of a mini-batch at the micro size in force, and halves that on out-of-memory.

    A new attempt starts from the buffers before the iteration (the micro-batches that went through have moved the
    running statistics) and from its seed; weights are not touched before the gradient is whole. `record` puts the new
    size on disk, from which a run that is killed now goes on, before the attempt is made. With `group_size` None there
    is no batch norm; with `splits` false batch norm is over the whole mini-batch, which then cannot be cut.
    """

    def __init__(
        self,
        model: nn.Module,
        sizes: MicroSizes,
        *,
        group_size: int | None,
        splits: bool,
        record: Callable[[], None],
        tell: Callable[[str], None],
    ) -> None:
        self._buffers, self._sizes, self._group_size, self._splits = KeptBuffers(model), sizes, group_size, splits
        self._record, self._tell = record, tell

    def passes(self, mini_batch: MiniBatch, passes: Callable[[MiniBatch], T]) -> tuple[MiniBatch, T]:
        """The mini-batch as it was cut in the end, and what `passes` gives for it; Failed where no cut does."""
        mini_batch = self._cut(mini_batch)
        self._buffers.keep()
        while (result := _attempted(passes, mini_batch)) is None:
            # The error is gone by now, and with it the frames that hold the activations.
            self._buffers.put_back()
            clear_memory()
            self._halve(mini_batch)
            mini_batch = self._cut(mini_batch)
        return mini_batch, result

    def _cut(self, mini_batch: MiniBatch) -> MiniBatch:
        if not self._splits:
            return mini_batch
        iteration = mini_batch.iteration
        return mini_batch.cut_into(
            cut_at(iteration.size, self._sizes.at(iteration.index + 1), group_size=self._group_size)
        )

    def _halve(self, mini_batch: MiniBatch) -> None:
        number, size = mini_batch.iteration.index + 1, mini_batch.iteration.size
        tried = min(self._sizes.at(number), size) if self._splits else size
        smaller = halved(tried, self._group_size) if self._splits else None
        if smaller is None:
            raise Failed(f"iteration {number:,}: {out_of_memory('auto', tried, self._group_size, self._splits)}")
        self._sizes.halve(number, smaller)
        self._record()
        self._tell(f"iteration {number:,}: out of memory at batch.micro_size={tried}: going on with {smaller}")


def out_of_memory(wanted: str, micro_size: int, group_size: int | None, splits: bool) -> str:
    """What is wrong and the cure where the smallest micro-batch does not run."""
    if not splits:
        cure = f"{CURE}, or a batch_norm.group_size below {micro_size} (null takes it over the whole mini-batch)"
    elif group_size is not None:
        cure = f"{CURE}, or a batch_norm.group_size below {group_size}"
    else:
        cure = f"{CURE}, or take a smaller model"
    return (
        f"batch.micro_size={wanted}: out of memory with a micro-batch of {micro_size}, which cannot be halved: {cure}"
    )


def _attempted(passes: Callable[[MiniBatch], T], mini_batch: MiniBatch) -> T | None:
    try:
        return passes(mini_batch)
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        return None
