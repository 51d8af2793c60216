"""The contract of a probe: a callable that declares what it needs; the run says when.

What happens at an iteration where a probe is due, each line only where its `needs` name it:

    iteration        begin(iteration, num_micro_batches); once more, what was seen forgotten, where memory ran out
                     and the mini-batch comes again in smaller micro-batches
    layers           with watching(): every forward and backward pass of the training, and
                     see_losses(values, weights) between the two, for each micro-batch
    micro_gradients  see_micro_gradient(weight, gradient), for each micro-batch
    gradient         see_gradient(weight, gradient): of the whole mini-batch, before clipping
    rehearsal        rehearse(rehearsal): its own passes over the same mini-batch, at the weights before the update
    (always)         probe(parameters) -> columns of the row; `p.grad` is the (clipped) mean gradient
    update           after_update(rehearsal) -> more columns, at the weights after the update
    time             timed(seconds) -> more columns; host seconds of this iteration in `data`, `forward_backward` and
                     `update`, and of all before it in `iterations` and, of these, in `logging`
    rows             derived(row) -> more columns, plain numbers, from a row that has columns of the probe's: on the
                     host, in the log's own thread, in order, each once; with rows_state() and load_rows(state) for
                     what that remembers
    memory           state() and load(state), in a checkpoint and after it

Columns are 0-d tensors on the device: a probe never waits for the device and never writes to what it sees. From
the run, the constructor is given what its signature asks for by name: `model`, `optimizer`, `plan`, `trained` (the
parameters that are trained, by name), `train` (a mbtrain.probes.samples.TrainingSet) and `group_size` (of BN groups,
None without batch norm).
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from torch import Tensor, nn

from mbtrain.core.gradient import MeanGradient, Observer
from mbtrain.plan.duration import Cadence, Points
from mbtrain.plan.refused import Refused
from mbtrain.plan.run import Iteration

NEEDS = ("iteration", "layers", "micro_gradients", "gradient", "rehearsal", "update", "time", "rows", "memory")
Columns = dict[str, Tensor]


class Probe(Protocol):
    """The least that a probe is; `needs`, some of NEEDS, may be left out where it needs nothing besides."""

    def __call__(self, parameters: Sequence[nn.Parameter]) -> Columns:
        """Columns of the row; `p.grad` is the (clipped) mean gradient of the whole mini-batch."""
        ...


class Rehearsal(Protocol):
    """The iteration's mini-batch again, for passes of a probe's own: the training never knows of them.

    What a pass changes is put back when the probe returns: buffers, random generators, the model's mode. Gradients are
    taken by torch.autograd.grad and thrown away. The draws (augmentation, dropout) start as the training's did.
    """

    model: nn.Module
    parameters: Sequence[nn.Parameter]
    num_samples: int

    def micro_batches(self, size: int | None = None) -> Iterator[Any]:
        """The mini-batch in parts of at most `size` samples, each its own BN group; None: the training's own cut.

        With batch norm a last part of one sample joins the one before, as BN groups do. A part has `inputs`, `target`
        and `groups`.
        """
        ...

    def losses(self, part: Any, weights: Mapping[str, Tensor] | None = None) -> tuple[Tensor, Tensor | None]:
        """(values, weights or None) of a part's samples, as the loss contract has it; the graph is kept.

        `weights` are put in place of the model's parameters and buffers of these names.
        """
        ...

    def mean_gradient(self, size: int | None = None, *, observers: Sequence[Observer] = ()) -> MeanGradient:
        """Loss, mean gradient and weight of the mini-batch, from parts of at most `size` samples."""
        ...


def needs(probe: Any, name: str) -> bool:
    """Whether `probe` declares that it needs `name`."""
    return name in getattr(probe, "needs", ())


@dataclass(frozen=True)
class Scheduled:
    """A probe, its name in the config, and when it is due."""

    probe: Any
    name: str
    times: Sequence[Cadence | Points] = field(default=())

    def __post_init__(self) -> None:
        for need in getattr(self.probe, "needs", ()):
            if need not in NEEDS:
                raise Refused(
                    f"probe.{self.name}: needs {need!r}, which no probe is given; there are {', '.join(NEEDS)}"
                )

    def is_due(self, iteration: Iteration) -> bool:
        """Whether it measures at this iteration."""
        place = iteration.index, iteration.samples_before, iteration.samples_after
        return any(time.is_due(*place) for time in self.times)
