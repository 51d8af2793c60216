"""The iteration made ready once: compiled (`torch.compile`), and on a GPU captured, gather to update.

What is compiled is plain torch that runs eagerly too (mbtrain.training.step), the optimizer's rule written out in place
of torch's fused kernel. Results agree with the eager engine's to rounding, not to the bit; a resumed run agrees with an
uninterrupted one to the bit, because what serves an iteration depends on its mini-batch alone: one of a size in force
is compiled, as one graph where it has up to four micro-batches, else as one of four micro-batches, called again and
again, and one of the update, so that more of them take no longer to compile; the ragged tail of an epoch runs eagerly.
torch 2.11 draws in another order within a graph, so that there dropout and augmentation differ from the eager engine's.
"""

import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from mbtrain.data.loader import MiniBatch
from mbtrain.optim.direct import rule_of_kernels
from mbtrain.optim.written_out import Rule, rule_of
from mbtrain.plan.failed import Failed
from mbtrain.plan.refused import Refused
from mbtrain.training.captured import Captured, held_by, host_generators, waiting_for_nothing
from mbtrain.training.compile_cache import cache_folder, is_mended
from mbtrain.training.kept import KeptState, kept_generators
from mbtrain.training.step import Done, Step, StepByParts
from mbtrain.training.stopwatch import medians, timed
from mbtrain.training.traced import Kind, Traced, one_kind

Iterate = Callable[[MiniBatch, Tensor], Done]

# More sizes than these would compile for longer than they run.
MOST_SIZES = 8
# Of micro-batches in one graph. Eight in one compile for twice as long as four at a time, and gain nothing where the
# model is not tiny; one at a time costs a call each.
MOST_IN_ONE_GRAPH = 4
# Libraries that a kill may have left unfinished in the cache, of those that were being compiled at once.
MOST_MENDED = 32
# How long `auto` times what it compiled against eager iterations, and how much faster it must be to be taken.
TIMED_S, MOST_ROUNDS, WORTH = 1.0, 200, 0.97
ANSWER = "it stops once it is compiled; Ctrl-C again ends it at once"


class NoFaster(Exception):
    """The iteration takes as long compiled as it does eagerly."""


class CompiledEngine:
    """Runs the iterations whose mini-batch has one of `sizes`; `warm_up` makes ready for all of them."""

    def __init__(
        self,
        step: Step,
        sizes: Sequence[int],
        example: Callable[[int], MiniBatch],
        tell: Callable[[str], None],
        gives_up: Callable[[], None] | None = None,
        *,
        answering: Callable[[str], AbstractContextManager[None]] = nullcontext,
        goes_on: bool = False,
        is_compiled: bool = True,
        looks_each_time: bool = False,
    ) -> None:
        """`gives_up` is told where the code does not trace, or is no faster compiled, and the run goes on eagerly;
        None: what does not trace is refused.

        `answering` frames what takes long with what is said to a signal; `goes_on` says that the run was compiled so
        far; `looks_each_time` that a user's code runs between two iterations, which may change the model. On a GPU a
        CUDA graph replays the iteration: as it was compiled, or as it is where not `is_compiled`.
        """
        self._answering, self._goes_on, self._is_compiled = answering, goes_on, is_compiled
        self._looks_each_time = looks_each_time
        self._step, self._sizes, self._example, self._tell = step, tuple(sizes), example, tell
        self._gives_up = gives_up
        self._ready: dict[int, Iterate] = {}
        self._traced: list[Traced] = []
        one = step.parameters[0]
        self._lr, self._lr_filled = torch.zeros((), dtype=one.dtype, device=one.device), 0.0
        self._is_captured, self._held = is_on_gpu(step.forward.model), dict[str, Any]()

    def takes(self, mini_batch: MiniBatch) -> bool:
        """Whether this iteration is one of them; the ragged tail is not."""
        return mini_batch.iteration.size in self._ready

    def __call__(self, mini_batch: MiniBatch, lr: float) -> Done:
        """Run one iteration, update included."""
        if lr != self._lr_filled:
            self._lr.fill_(lr)
            self._lr_filled = lr
        if self._looks_each_time:
            self.look_again()
        try:
            return self._ready[mini_batch.iteration.size](mini_batch, self._lr)
        except Exception as error:
            if type(error).__module__ != "torch._dynamo.exc":
                raise
            raise Failed(
                f"iteration {mini_batch.iteration.index + 1:,}: the model's code does something else than when it was "
                f"compiled ({_in_short(error)}): start a new run with trainer.engine=eager"
            ) from error

    def look_again(self) -> None:
        """After whatever came between two iterations: raises Failed where a graph would not see what has changed, now
        where it was captured, at the next iteration where it was compiled."""
        for one in self._traced:
            one.look_again()
        if self._held and (name := self._changed(self._held)):
            raise Failed(
                f"{name} has changed since the iteration was captured: start a new run with trainer.engine=eager"
            )

    def warm_up(self) -> None:
        """Make ready for every size by running it, everything put back; raises Refused where the code won't do."""
        start, done = time.perf_counter(), "compiled" if self._is_compiled else "captured"
        self._tell(self._announcement())
        rule = rule_of(self._step.optimizer, self._step.parameters)
        # After `rule_of`, which makes the optimizer's state: the tensors that are compiled in are those put back.
        forward = self._step.forward
        kept = KeptState(forward.model, self._step.optimizer, None, loss=forward.loss)
        with kept_generators(self._lr.device), self._answering(ANSWER):
            try:
                self._make_ready_or_mend(rule)
            except Exception as error:
                self._ready.clear()
                self._refuse(error)
            finally:
                kept.put_back()
        if self._ready:
            self._tell(f"{done} in {time.perf_counter() - start:.1f} s")

    def _announcement(self) -> str:
        if not self._is_compiled:
            return "capturing the iteration as a CUDA graph"
        where = cache_folder()
        return f"compiling the iteration: 10 to 60 s the first time on idle cores, seconds from {where} after that"

    def _make_ready_or_mend(self, rule: Rule) -> None:
        """Once more where what a killed run left in the cache was in the way."""
        for _ in range(MOST_MENDED):
            try:
                return self._make_ready(rule)
            except Exception as error:
                if not is_mended(error):
                    raise
                self._traced.clear()
        return self._make_ready(rule)

    def _make_ready(self, rule: Rule) -> None:
        if not self._is_compiled:
            rule = rule_of_kernels(self._step.optimizer, self._step.parameters, is_replayed=True) or rule
        by_parts: Iterate | None = None
        for size in self._sizes:
            example = self._example(size)
            held = held_by(self._step.forward) if self._is_captured else {}
            if not self._is_compiled:
                iterate = partial(self._eager, rule)
            elif example.num_micro_batches <= MOST_IN_ONE_GRAPH:
                iterate = self._tried(self._whole(rule, example), example)
            else:
                # The same for all sizes: their micro-batches are alike.
                by_parts = by_parts or self._by_parts(rule, example)
                iterate = self._tried(by_parts, example)
            self._ready[size] = self._captured(iterate, example, held) if self._is_captured else iterate
        self._held = held_by(self._step.forward) if self._is_captured else {}
        if self._gives_up is not None and not self._is_captured:
            kernels = rule_of_kernels(self._step.optimizer, self._step.parameters, is_replayed=False)
            self._refuse_what_is_no_faster(kernels or rule)

    def _refuse_what_is_no_faster(self, rule: Rule) -> None:
        """Time the iteration as it was compiled against itself run eagerly, by turns, on the largest mini-batch."""
        example = self._example(self._sizes[-1])
        ways = {"compiled": self._ready[self._sizes[-1]], "eager": partial(self._eager, rule)}
        seconds = medians(
            {name: partial(timed, partial(way, example, self._lr)) for name, way in ways.items()},
            seconds=TIMED_S,
            rounds=MOST_ROUNDS,
        )
        told = f"{1e3 * seconds['compiled']:.2f} ms an iteration, {1e3 * seconds['eager']:.2f} ms eagerly"
        if seconds["compiled"] > WORTH * seconds["eager"]:
            raise NoFaster(f"compiled is no faster here: {told}")
        self._tell(f"trainer.engine=auto: compiled, {told}")

    def _eager(self, rule: Rule, mini_batch: MiniBatch, lr: Tensor) -> Done:
        return self._step.iterate(mini_batch, rule, lr)

    def _tried(self, iterate: Iterate, example: MiniBatch) -> Iterate:
        """Compiled now, and called again: code that would be traced anew each time, as a model's that counts its
        calls, shows there."""
        with _switches():
            iterate(example, self._lr)
            iterate(example, self._lr)
        return iterate

    def _whole(self, rule: Rule, example: MiniBatch) -> Iterate:
        """One graph, for mini-batches cut like `example`."""
        step = self._step

        def iterate(indices: Tensor, lr: Tensor) -> Done:
            return step.iterate(example.of(indices), rule, lr)

        traced = self._compiled(iterate)
        return lambda mini_batch, lr: traced(mini_batch.indices, lr)

    def _by_parts(self, rule: Rule, example: MiniBatch) -> Iterate:
        """A graph that adds micro-batches up (another where a ragged rest is left), and one for the update."""
        return StepByParts(self._step, rule, example, at_once=MOST_IN_ONE_GRAPH, prepare=self._compiled).iterate

    def _compiled(self, function: Any, kind: Kind = one_kind) -> Any:
        self._traced.append(Traced(function, kind))
        return self._traced[-1]

    def _captured(self, iterate: Iterate, example: MiniBatch, held: Mapping[str, Any]) -> Captured:
        """`held` is what the model held before its first iteration."""
        iterate(example, self._lr)
        drawn = host_generators(self._lr.device)
        with waiting_for_nothing(self._lr.device):
            iterate(example, self._lr)
        if name := self._changed(held):
            raise RuntimeError(f"an iteration puts something else in the place of {name}: a graph would not")
        if host_generators(self._lr.device) != drawn:
            raise RuntimeError("an iteration draws random numbers on the host: a graph would not")
        return Captured(iterate, example, self._lr)

    def _changed(self, held: Mapping[str, Any]) -> str | None:
        now = held_by(self._step.forward)
        return next((name for name in {**held, **now} if held.get(name) != now.get(name)), None)

    def _refuse(self, error: Exception) -> None:
        reason, engine = _in_short(error), "compiled" if self._is_compiled else "captured"
        if self._gives_up is None:
            raise Refused(
                f"trainer.engine={engine}: this run cannot be {engine} ({reason}): {cure(self._goes_on)}"
            ) from error
        self._gives_up()
        why = reason if isinstance(error, NoFaster) else f"this run cannot be {engine} ({reason})"
        self._tell(f"trainer.engine=auto: eager, {why}")


def _in_short(error: Exception) -> str:
    return " ".join((str(error).strip() or type(error).__name__).splitlines()[:2])


@contextmanager
def _switches() -> Iterator[None]:
    """Dynamo may trace autograd.grad, and random numbers are drawn as the eager engine draws them; torch is silent."""
    import torch._dynamo.config as dynamo
    import torch._inductor.config as inductor

    with (
        # Static shapes: with dynamic ones the graph that serves a size would depend on the sizes before it.
        dynamo.patch(
            trace_autograd_ops=True,
            automatic_dynamic_shapes=False,
            assume_static_by_default=True,
            recompile_limit=MOST_SIZES + 1,
            # Its own record of what a call costs takes 4 us.
            record_runtime_overhead=False,
        ),
        # Sizes are fixed: to look at them again before each kernel takes 4 % of a small model's iteration.
        inductor.patch(fallback_random=True, size_asserts=False),
        warnings.catch_warnings(action="ignore"),
    ):
        yield


def is_on_gpu(model: nn.Module) -> bool:
    """Whether the model's weights lie on a GPU."""
    return next(model.parameters()).device.type == "cuda"


def cure(goes_on: bool) -> str:
    """A run that was compiled so far is not gone on with eagerly: it would differ from an uninterrupted one."""
    return "start a new run, with a run_dir of its own" if goes_on else "set trainer.engine=eager"
