"""The iteration made ready once: compiled (`torch.compile`), and on a GPU captured, gather to update.

What is compiled is plain torch that runs eagerly too (mbtrain.training.step), the optimizer's rule written out in place
of torch's fused kernel. Results agree with the eager engine's to rounding, not to the bit; a resumed run agrees with an
uninterrupted one to the bit, because what serves an iteration depends on its mini-batch alone: one of a size in force
is compiled, as one graph where it has up to four micro-batches, else as one of four micro-batches, called again and
again, and one of the update, so that more of them take no longer to compile; the ragged tail of an epoch runs eagerly.
torch 2.11 draws in another order within a graph, so that there dropout and augmentation differ from the eager engine's.
"""

import os
import re
import shutil
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from pathlib import Path
from types import FunctionType, MethodType
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from mbtrain.data.loader import MiniBatch
from mbtrain.data.sources import MemorySource, Source
from mbtrain.optim.direct import rule_of_kernels
from mbtrain.optim.written_out import Rule, is_known, rule_of
from mbtrain.plan.failed import Failed
from mbtrain.plan.refused import Refused
from mbtrain.plan.run import RunPlan
from mbtrain.plan.scaling import Scaling
from mbtrain.training.captured import Captured, held_by
from mbtrain.training.kept import KeptState, kept_generators
from mbtrain.training.step import Done, Step, StepByParts

Iterate = Callable[[MiniBatch, Tensor], Done]

# More sizes than these would compile for longer than they run.
MOST_SIZES = 8
# Of micro-batches in one graph. Eight in one compile for twice as long as four at a time, and gain nothing where the
# model is not tiny; one at a time costs a call each.
MOST_IN_ONE_GRAPH = 4
ANSWER = "it stops once it is compiled; Ctrl-C again ends it at once"
# `engine=auto` compiles where so many iterations are to come: a cold compile takes about as long as they save. On a GPU
# it captures the eager iteration, which takes less than a second.
WORTH_COMPILING, WORTH_CAPTURING = 100_000, 1_000


# Names by which Dynamo speaks of what the functions below hold, and of modules.
_OURS = re.compile(r"(?:dict\(|type\()*(?:self|step|rule|example)\b")
_FIXED_GLOBALS = ("G['__import_torch_dot_", "G['__import_mbtrain_dot_", "G['__builtins_", "G['___unnamed_scope_")


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
    ) -> None:
        """`gives_up` is told where the code does not trace and the run goes on eagerly; None: then it is refused.

        `answering` frames what takes long with what is said to a signal; `goes_on` says that the run was compiled so
        far. On a GPU a CUDA graph replays the iteration: as it was compiled, or as it is where not `is_compiled`.
        """
        self._answering, self._goes_on, self._is_compiled = answering, goes_on, is_compiled
        self._step, self._sizes, self._example, self._tell = step, tuple(sizes), example, tell
        self._gives_up = gives_up
        self._ready: dict[int, Iterate] = {}
        one = step.parameters[0]
        self._lr = torch.zeros((), dtype=one.dtype, device=one.device)
        self._is_captured = is_on_gpu(step.forward.model)

    def takes(self, mini_batch: MiniBatch) -> bool:
        """Whether this iteration is one of them; the ragged tail is not."""
        return mini_batch.iteration.size in self._ready

    def __call__(self, mini_batch: MiniBatch, lr: float) -> Done:
        """Run one iteration, update included."""
        self._lr.fill_(lr)
        try:
            return self._ready[mini_batch.iteration.size](mini_batch, self._lr)
        except Exception as error:
            if type(error).__module__ != "torch._dynamo.exc":
                raise
            raise Failed(
                f"iteration {mini_batch.iteration.index + 1:,}: the model's code does something else than when it was "
                f"compiled ({_in_short(error)}): start a new run with trainer.engine=eager"
            ) from error

    def warm_up(self) -> None:
        """Make ready for every size by running it, everything put back; raises Refused where the code won't do."""
        start, done = time.perf_counter(), "compiled" if self._is_compiled else "captured"
        self._tell(self._announcement())
        rule = rule_of(self._step.optimizer, self._step.parameters)
        # After `rule_of`, which makes the optimizer's state: the tensors that are compiled in are those put back.
        kept = KeptState(self._step.forward.model, self._step.optimizer, None)
        with kept_generators(self._lr.device), self._answering(ANSWER):
            try:
                self._make_ready(rule)
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
        return f"compiling the iteration: 10 to 60 s the first time on idle cores, seconds from {_cache()} after that"

    def _make_ready(self, rule: Rule) -> None:
        if not self._is_compiled:
            rule = rule_of_kernels(self._step.optimizer, self._step.parameters) or rule
        by_parts: Iterate | None = None
        for size in self._sizes:
            example = self._example(size)
            if not self._is_compiled:
                iterate = partial(self._eager, rule)
            elif example.num_micro_batches <= MOST_IN_ONE_GRAPH:
                iterate = self._tried(_whole(self._step, rule, example), example)
            else:
                # The same for all sizes: their micro-batches are alike.
                by_parts = by_parts or _by_parts(self._step, rule, example)
                iterate = self._tried(by_parts, example)
            self._ready[size] = self._captured(iterate, example) if self._is_captured else iterate

    def _eager(self, rule: Rule, mini_batch: MiniBatch, lr: Tensor) -> Done:
        return self._step.iterate(mini_batch, rule, lr)

    def _tried(self, iterate: Iterate, example: MiniBatch) -> Iterate:
        """Compiled now, and called again: code that would be traced anew each time, as a model's that counts its
        calls, shows there."""
        import torch._dynamo.config as dynamo

        with _switches():
            iterate(example, self._lr)
            with dynamo.patch(error_on_recompile=True):
                iterate(example, self._lr)
        return iterate

    def _captured(self, iterate: Iterate, example: MiniBatch) -> Captured:
        iterate(example, self._lr)
        held = held_by(self._step.forward)
        iterate(example, self._lr)
        changed = [name for name, one in held_by(self._step.forward).items() if held.get(name) != one]
        if changed:
            raise RuntimeError(f"an iteration puts something else in the place of {changed[0]}: a graph would not")
        return Captured(iterate, example, self._lr)

    def _refuse(self, error: Exception) -> None:
        reason, engine = _in_short(error), "compiled" if self._is_compiled else "captured"
        if self._gives_up is None:
            raise Refused(
                f"trainer.engine={engine}: this run cannot be {engine} ({reason}): {_cure(self._goes_on)}"
            ) from error
        self._gives_up()
        self._tell(f"trainer.engine=auto: eager, this run cannot be {engine} ({reason})")


def _in_short(error: Exception) -> str:
    return " ".join((str(error).strip() or type(error).__name__).splitlines()[:2])


def _whole(step: Step, rule: Rule, example: MiniBatch) -> Iterate:
    """One graph, for mini-batches cut like `example`."""

    def iterate(indices: Tensor, lr: Tensor) -> Done:
        return step.iterate(example.of(indices), rule, lr)

    compiled = _compiled(iterate)
    return lambda mini_batch, lr: compiled(mini_batch.indices, lr)


def _by_parts(step: Step, rule: Rule, example: MiniBatch) -> Iterate:
    """A graph that adds micro-batches up (another where a ragged rest is left), and one for the update."""
    return StepByParts(step, rule, example, at_once=MOST_IN_ONE_GRAPH, prepare=_compiled).iterate


def _compiled(function: Any) -> Any:
    return torch.compile(_with_own_code(function), fullgraph=True, options={"guard_filter_fn": _guarded})


def _with_own_code(function: Any) -> Any:
    """The same function with code of its own: torch keeps with the code what it compiled of it, and would take for one
    run what it compiled for another, because too little is looked at here to tell them apart."""
    if isinstance(function, MethodType):
        return MethodType(_with_own_code(function.__func__), function.__self__)
    code = function.__code__.replace()
    return FunctionType(code, function.__globals__, function.__name__, function.__defaults__, function.__closure__)


def _guarded(entries: Sequence[Any]) -> list[bool]:
    """Which of all that the traced code has read is looked at again at each call.

    That is what it is called with, and all of the model and the loss, whose attributes may change while it runs (a
    dropout's p). What is ours, and functions of torch's, do not: to look at them too takes a tenth of a small model's
    iteration.
    """
    return [_may_change(one) for one in entries]


def _may_change(entry: Any) -> bool:
    if entry.is_global:
        return not entry.name.startswith(_FIXED_GLOBALS)
    if ".forward.model" in entry.name or ".forward.loss" in entry.name:
        return True
    return _OURS.match(entry.name) is None


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
        ),
        inductor.patch(fallback_random=True),
        warnings.catch_warnings(action="ignore"),
    ):
        yield


def _cache() -> str:
    """Where torch keeps what it compiled: the user's cache folder, where its own choice is the temporary one."""
    from torch._inductor.runtime.cache_dir_utils import default_cache_dir

    # torch sets the variable to its own choice as soon as it looks.
    if os.environ.get("TORCHINDUCTOR_CACHE_DIR") in (None, default_cache_dir()):
        home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
        os.environ["TORCHINDUCTOR_CACHE_DIR"] = str(Path(home, "mbtrain", "compiled"))
    return os.environ["TORCHINDUCTOR_CACHE_DIR"]


class Engine(NamedTuple):
    """What runs the iterations, by its name: those of `sizes` not eagerly; `note` is what the plan line says of it."""

    name: str
    sizes: tuple[int, ...]
    note: str


def engine_of(
    config: Mapping[str, Any],
    chosen: str | None,
    plan: RunPlan,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    source: Source,
    scaling: Scaling,
) -> Engine:
    """The engine that the config asks for; `auto` takes one that suits the run. Raises Refused with the reason.

    `chosen` is the engine of a run that goes on.
    """
    wanted = chosen or config["trainer"]["engine"]
    quick, least = ("captured", WORTH_CAPTURING) if is_on_gpu(model) else ("compiled", WORTH_COMPILING)
    name = quick if wanted == "auto" else wanted
    if wanted == "eager" or (wanted == "auto" and plan.num_iterations < least):
        note = " (eager: too short to pay for compiling)" if name == "compiled" else " (eager: too short to capture)"
        return Engine("eager", (), note if wanted == "auto" else "")
    sizes = tuple(sorted({min(size, plan.num_samples) for start, size in plan.batch_sizes.steps if start < plan.total}))
    reasons = {
        "its batch sizes are not known ahead": not plan.is_counted,
        f"{len(sizes)} batch sizes would be compiled each, {MOST_SIZES} is the most": len(sizes) > MOST_SIZES,
        "scaling moves the optimizer's options with the batch size": scaling.is_on and len(sizes) > 1,
        "the data are not in memory": not isinstance(source, MemorySource),
        "only SGD and AdamW are written out": not is_known(optimizer),
        **(_not_captured(model) if name == "captured" else _not_compiled()),
        **_obstacles(config, model),
    }
    reason = next((reason for reason, holds in reasons.items() if holds), None)
    if reason is None:
        return Engine(name, sizes, f" ({name})")
    if wanted == "auto":
        return Engine("eager", (), f" (eager: {reason})")
    raise Refused(f"trainer.engine={wanted}: {reason}: {_cure(chosen == wanted)}")


def is_on_gpu(model: nn.Module) -> bool:
    """Whether the model's weights lie on a GPU."""
    return next(model.parameters()).device.type == "cuda"


def _cure(goes_on: bool) -> str:
    """A run that was compiled so far is not gone on with eagerly: it would differ from an uninterrupted one."""
    return "start a new run, with a run_dir of its own" if goes_on else "set trainer.engine=eager"


def _not_captured(model: nn.Module) -> dict[str, bool]:
    return {"a CUDA graph needs a GPU": not is_on_gpu(model)}


def _not_compiled() -> dict[str, bool]:
    import torch._dynamo.config as dynamo

    return {
        "this torch cannot trace autograd.grad, 2.13 can": not hasattr(dynamo, "trace_autograd_ops"),
        "there is no C++ compiler": shutil.which(os.environ.get("CXX", "g++")) is None,
    }


def _obstacles(config: Mapping[str, Any], model: nn.Module) -> dict[str, bool]:
    searched = config["batch"]["micro_size"]
    norms = [one for one in model.modules() if isinstance(one, _BatchNorm)]
    return {
        "probes look at gradients": bool(config["probe"]),
        "callbacks of yours may": bool(config["trainer"]["extra"].get("callbacks")),
        "nonfinite=skip takes updates back": config["nonfinite"] == "skip",
        "trainer.precision=16-mixed scales the loss": config["trainer"]["precision"] == "16-mixed",
        f"batch.micro_size={searched} is searched for on the eager iteration": isinstance(searched, str),
        "batch.max_tokens makes mini-batches of many sizes": config["batch"]["max_tokens"] is not None,
        "batch renorm's bounds move": config["batch_norm"]["kind"] == "renorm",
        "batch_norm.half_life sets the momentum at each call": config["batch_norm"]["half_life"] is not None,
        "trainer.activation_checkpointing runs blocks twice": config["trainer"]["activation_checkpointing"],
        "batch norm with momentum null counts on the host": any(one.momentum is None for one in norms),
    }
