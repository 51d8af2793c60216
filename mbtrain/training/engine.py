"""Which engine runs the iterations: eager, compiled or captured, as asked for or as it suits the run."""

import os
import shutil
from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from mbtrain.data.sources import MemorySource, Source
from mbtrain.optim.written_out import is_known
from mbtrain.plan.refused import Refused
from mbtrain.plan.run import RunPlan
from mbtrain.plan.scaling import Scaling
from mbtrain.training.compiled import MOST_SIZES, cure, is_on_gpu
from mbtrain.training.kept import attributes

# `engine=auto` compiles where so many iterations are to come, because a cold compile takes about as long as they save,
# and stays with it where it is faster. On a GPU it captures the eager iteration, which takes less than a second.
WORTH_COMPILING, WORTH_CAPTURING = 100_000, 1_000


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
    raise Refused(f"trainer.engine={wanted}: {reason}: {cure(chosen == wanted)}")


def _not_captured(model: nn.Module) -> dict[str, bool]:
    return {"a CUDA graph needs a GPU": not is_on_gpu(model)}


def _not_compiled() -> dict[str, bool]:
    import torch._dynamo.config as dynamo

    return {
        "this torch cannot trace autograd.grad, 2.13 can": not hasattr(dynamo, "trace_autograd_ops"),
        "there is no C++ compiler": shutil.which(os.environ.get("CXX", "g++")) is None,
    }


def _has_double_numbers(model: nn.Module) -> bool:
    own = (one for module in model.modules() for _, one in attributes(module))
    found = (one for one in (*model.parameters(), *model.buffers(), *own) if isinstance(one, Tensor))
    return any(one.dim() == 0 and one.dtype == torch.float64 and one.is_cpu for one in found)


def _obstacles(config: Mapping[str, Any], model: nn.Module) -> dict[str, bool]:
    searched = config["batch"]["micro_size"]
    norms = [one for one in model.modules() if isinstance(one, _BatchNorm)]
    return {
        "probes look at gradients": bool(config["probe"]),
        "callbacks of yours may": bool(config["trainer"]["extra"].get("callbacks")),
        "hooks on parameters change gradients": any(one._backward_hooks for one in model.parameters()),
        "torch loses what is written to 0-d float64 numbers on a CPU": _has_double_numbers(model),
        "nonfinite=skip takes updates back": config["nonfinite"] == "skip",
        "trainer.precision=16-mixed scales the loss": config["trainer"]["precision"] == "16-mixed",
        f"batch.micro_size={searched} is searched for on the eager iteration": isinstance(searched, str),
        "batch.max_tokens makes mini-batches of many sizes": config["batch"]["max_tokens"] is not None,
        "batch renorm's bounds move": config["batch_norm"]["kind"] == "renorm",
        "batch_norm.half_life sets the momentum at each call": config["batch_norm"]["half_life"] is not None,
        "trainer.activation_checkpointing runs blocks twice": config["trainer"]["activation_checkpointing"],
        "batch norm with momentum null counts on the host": any(one.momentum is None for one in norms),
    }
