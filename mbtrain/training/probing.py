"""The probes of one iteration: shown what each of them needs, in the order of mbtrain.probes.contract."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, closing, nullcontext
from typing import Any

from torch import Tensor, nn

from mbtrain.core.gradient import MeanGradient, Observer
from mbtrain.data.loader import Micro
from mbtrain.plan.run import Iteration
from mbtrain.probes.contract import Columns, Scheduled, needs
from mbtrain.training.rehearsal import Rehearsal
from mbtrain.training.stopwatch import Stopwatch

_NOTHING = nullcontext()


class Probing:
    """The probes that are due at an iteration, in `num_micro_batches`; `rehearsal` makes each of them a new one."""

    def __init__(
        self,
        probes: Sequence[Any],
        rehearsal: Callable[[], Rehearsal],
        iteration: Iteration,
        num_micro_batches: int,
        *,
        waited_s: float,
    ) -> None:
        self._probes, self._rehearsal = probes, rehearsal
        for probe in self._that_need("iteration"):
            probe.begin(iteration, num_micro_batches)
        self.observers: list[Observer] = [one.see_micro_gradient for one in self._that_need("micro_gradients")]
        self._watchers = self._that_need("layers")
        self._stopwatch = Stopwatch(waited_s=waited_s) if self._that_need("time") else None

    def fetched(self, micro_batches: Iterator[Micro]) -> Iterator[Micro]:
        """`micro_batches`, timed where a probe needs the time."""
        return micro_batches if self._stopwatch is None else self._stopwatch.fetching(micro_batches)

    def watching(self) -> AbstractContextManager[object]:
        """Around the passes of the training."""
        if not self._watchers:
            return _NOTHING
        stack = ExitStack()
        for probe in self._watchers:
            stack.enter_context(probe.watching())
        return stack

    def see_losses(self, values: Tensor, weights: Tensor | None) -> None:
        """Between the forward and the backward pass of a micro-batch."""
        for probe in self._watchers:
            probe.see_losses(values, weights)

    def before_update(self, result: MeanGradient, parameters: Sequence[nn.Parameter]) -> Columns:
        """The columns that are known now; `result` is unscaled and not clipped, `p.grad` is."""
        columns: Columns = {}
        self._lap("update")
        for probe in self._probes:
            if needs(probe, "gradient"):
                probe.see_gradient(result.weight, result.gradient)
            if needs(probe, "rehearsal"):
                with closing(self._rehearsal()) as rehearsal:
                    probe.rehearse(rehearsal)
            columns |= probe(parameters)
        self._lap(None)
        return columns

    def after_update(self, spent_s: Mapping[str, float]) -> Columns:
        """The columns that are known after the update; `spent_s` are seconds of all iterations before."""
        columns: Columns = {}
        self._lap("update")
        if self._stopwatch is not None:
            for probe in self._that_need("time"):
                columns |= probe.timed({**self._stopwatch.seconds, **spent_s})
        for probe in self._that_need("update"):
            with closing(self._rehearsal()) as rehearsal:
                columns |= probe.after_update(rehearsal)
        return columns

    def _lap(self, part: str | None) -> None:
        if self._stopwatch is not None:
            self._stopwatch.lap(part)

    def _that_need(self, name: str) -> list[Any]:
        return [probe for probe in self._probes if needs(probe, name)]


class Idle(Probing):
    """No probe is due."""

    def __init__(self) -> None:
        self._probes = self._watchers = self.observers = []
        self._stopwatch = None


IDLE = Idle()


def memory(probes: Sequence[Scheduled]) -> dict[str, Any]:
    """What the probes remember, by name: a part of a checkpoint."""
    return {one.name: one.probe.state() for one in probes if needs(one.probe, "memory")}


def remember(probes: Sequence[Scheduled], state: Mapping[str, Any]) -> None:
    """Give the probes back what a checkpoint holds of theirs."""
    for one in probes:
        if one.name in state:
            one.probe.load(state[one.name])
