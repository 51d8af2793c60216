"""A whole iteration as one compiled function: gather, micro-batches, mean gradient, clip, update (`torch.compile`).

What is compiled is the step that runs eagerly, `mean_gradient` and all, with the optimizer's rule written out in place
of torch's fused kernel. Results agree with the eager engine's to rounding, not to the bit; a resumed run agrees with an
uninterrupted one to the bit, because which engine serves an iteration depends on its mini-batch alone: mini-batches of
a size in force are compiled, a graph a size, and the ragged tail of an epoch runs eagerly.
"""

import os
import shutil
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from mbtrain.core.gradient import mean_gradient
from mbtrain.data.loader import Cut, Micro, MiniBatch
from mbtrain.data.sources import MemorySource, Source
from mbtrain.optim.clip import clipped, global_norm
from mbtrain.optim.written_out import Rule, is_known, rule_of
from mbtrain.plan.refused import Refused
from mbtrain.plan.run import RunPlan
from mbtrain.plan.scaling import Scaling
from mbtrain.training.forward import Forward
from mbtrain.training.kept import KeptState, kept_generators

# More sizes, or micro-batches in one iteration, than these would compile for longer than they run.
MOST_SIZES, MOST_MICRO_BATCHES = 8, 16
# `engine=auto` compiles where so many iterations are to come: a cold compile takes about as long as they save.
WORTH_COMPILING = 100_000


class Done(NamedTuple):
    """What a compiled iteration leaves for its row."""

    loss: Tensor
    weight: float | Tensor
    pairs: Sequence[tuple[Tensor, Tensor]]
    norm: Tensor | None


@dataclass(frozen=True)
class Step:
    """What an iteration computes with; `iterate` is plain torch, run as it is or compiled."""

    forward: Forward
    parameters: Sequence[nn.Parameter]
    optimizer: torch.optim.Optimizer
    clip_norm: float | None

    def iterate(self, mini_batch: MiniBatch, rule: Rule, lr: Tensor) -> Done:
        """Mean gradient of the mini-batch, clip, and `rule` in place with the learning rate `lr` (0-d)."""
        pairs: list[tuple[Tensor, Tensor]] = []

        def evaluate(micro: Micro) -> tuple[Tensor, Tensor | None]:
            output, values, weights = self.forward(micro)
            pairs.append((output.detach(), micro.target))
            return values, weights

        result = mean_gradient(
            mini_batch.micro_batches(), evaluate, self.parameters, num_micro_batches=mini_batch.num_micro_batches
        )
        gradient, norm = result.gradient, None
        with torch.no_grad():
            if self.clip_norm is not None:
                norm = global_norm(gradient)
                gradient = clipped(gradient, self.clip_norm, norm)
            rule(gradient, lr)
        return Done(result.loss, result.weight, pairs, norm)


class CompiledEngine:
    """Runs the iterations whose mini-batch has one of `sizes`; all of them are compiled by `warm_up`."""

    def __init__(
        self,
        step: Step,
        sizes: Sequence[int],
        example: Callable[[int], MiniBatch],
        tell: Callable[[str], None],
        gives_up: Callable[[], None] | None = None,
        *,
        goes_on: bool = False,
    ) -> None:
        """`gives_up` is told where the code does not trace and the run goes on eagerly; None: then it is refused.

        `goes_on` says that the run was compiled so far.
        """
        self._goes_on = goes_on
        self._step, self._sizes, self._example, self._tell = step, tuple(sizes), example, tell
        self._gives_up = gives_up
        self._compiled: dict[int, Callable[[Tensor, Tensor], Done]] = {}
        one = step.parameters[0]
        self._lr = torch.zeros((), dtype=one.dtype, device=one.device)

    def takes(self, mini_batch: MiniBatch) -> bool:
        """Whether this iteration is compiled; the ragged tail is not."""
        return mini_batch.iteration.size in self._compiled

    def __call__(self, mini_batch: MiniBatch, lr: float) -> Done:
        """Run one iteration, update included."""
        self._lr.fill_(lr)
        return self._compiled[mini_batch.iteration.size](mini_batch.indices, self._lr)

    def warm_up(self) -> None:
        """Compile for every size by running it once, everything put back; raises Refused where the code won't trace."""
        cache, start = _cache(), time.perf_counter()
        self._tell(f"compiling the iteration: up to some minutes the first time, seconds from {cache} after that")
        rule = rule_of(self._step.optimizer, self._step.parameters)
        # After `rule_of`, which makes the optimizer's state: the tensors that are compiled in are those put back.
        kept = KeptState(self._step.forward.model, self._step.optimizer, None)
        with _switches(), kept_generators(self._lr.device):
            for size in self._sizes:
                example = self._example(size)
                self._compiled[size] = compiled = _compiled(self._step, rule, example)
                try:
                    compiled(example.indices, self._lr)
                except Exception as error:
                    self._compiled.clear()
                    self._refuse(error)
                    break
        kept.put_back()
        if self._compiled:
            self._tell(f"compiled in {time.perf_counter() - start:.1f} s")

    def _refuse(self, error: Exception) -> None:
        reason = " ".join((str(error).strip() or type(error).__name__).splitlines()[:2])
        if self._gives_up is None:
            raise Refused(
                f"trainer.engine=compiled: torch.compile does not take this run ({reason}): {_cure(self._goes_on)}"
            ) from error
        self._gives_up()
        self._tell(f"trainer.engine=auto: eager, torch.compile does not take this run ({reason})")


def _compiled(step: Step, rule: Rule, example: MiniBatch) -> Callable[[Tensor, Tensor], Done]:
    """One graph, for mini-batches cut like `example`."""

    def iterate(indices: Tensor, lr: Tensor) -> Done:
        return step.iterate(example.of(indices), rule, lr)

    # Static shapes: with dynamic ones the graph that serves a size would depend on the sizes before it.
    return torch.compile(iterate, fullgraph=True, dynamic=False)


@contextmanager
def _switches() -> Iterator[None]:
    """Dynamo may trace autograd.grad, and random numbers are drawn as the eager engine draws them; torch is silent."""
    import torch._dynamo.config as dynamo
    import torch._inductor.config as inductor

    with (
        dynamo.patch(trace_autograd_ops=True, recompile_limit=MOST_SIZES + 1),
        inductor.patch(fallback_random=True),
        warnings.catch_warnings(action="ignore"),
    ):
        yield


def _cache() -> str:
    """Where torch keeps what it compiled: the user's cache folder, where its own choice is the temporary one."""
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(Path(home, "mbtrain", "compiled")))


def compiled_sizes(
    config: Mapping[str, Any],
    chosen: str | None,
    plan: RunPlan,
    cut: Cut,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    source: Source,
    scaling: Scaling,
) -> tuple[tuple[int, ...], str]:
    """The sizes of mini-batch to compile, and what the plan line says of it; raises Refused with the reason.

    `chosen` is the engine of a run that goes on.
    """
    wanted = chosen or config["trainer"]["engine"]
    if wanted == "eager" or (wanted == "auto" and plan.num_iterations < WORTH_COMPILING):
        return (), " (eager: too short to pay for compiling)" if wanted == "auto" else ""
    sizes = tuple(sorted({min(size, plan.num_samples) for _, size in plan.batch_sizes.steps}))
    most = max(len(cut(size)) for size in sizes)
    reasons = {
        "its batch sizes are not known ahead": not plan.is_counted,
        f"{len(sizes)} batch sizes would be compiled each, {MOST_SIZES} is the most": len(sizes) > MOST_SIZES,
        "scaling moves the optimizer's options with the batch size": scaling.is_on and len(sizes) > 1,
        f"{most} micro-batches take too long to compile, {MOST_MICRO_BATCHES} is the most": most > MOST_MICRO_BATCHES,
        "the data are not in memory": not isinstance(source, MemorySource),
        "only SGD and AdamW are written out": not is_known(optimizer),
        **_obstacles(config, model),
    }
    reason = next((reason for reason, holds in reasons.items() if holds), None)
    if reason is None:
        return sizes, " (compiled)"
    if wanted == "auto":
        return (), f" (eager: {reason})"
    raise Refused(f"trainer.engine=compiled: {reason}: {_cure(chosen == 'compiled')}")


def _cure(goes_on: bool) -> str:
    """A run that was compiled so far is not gone on with eagerly: it would differ from an uninterrupted one."""
    return "start a new run, with a run_dir of its own" if goes_on else "set trainer.engine=eager"


def _obstacles(config: Mapping[str, Any], model: nn.Module) -> dict[str, bool]:
    import torch._dynamo.config as dynamo

    searched = config["batch"]["micro_size"]
    norms = [one for one in model.modules() if isinstance(one, _BatchNorm)]
    return {
        "this torch cannot trace autograd.grad, 2.13 can": not hasattr(dynamo, "trace_autograd_ops"),
        "there is no C++ compiler": shutil.which(os.environ.get("CXX", "g++")) is None,
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
