"""Where a run is computed: device, number type, threads."""

import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from mbtrain.plan.refused import Refused

DTYPES = {"64-true": torch.float64}
# Forward work of one micro-batch above which a second thread pays: on two idle cores the MLP 784-256-10 at 256 (1.0e8)
# gains a third, at 32 (1.3e7) a twentieth at most; `scripts/benchmark.py --threads` measures it.
FLOPS_WORTH_THREADS = 5e7


def device_of(accelerator: str, precision: str) -> torch.device:
    """The device that `trainer.accelerator` names; `auto` is a GPU where there is one."""
    has_gpu = torch.cuda.is_available()
    if accelerator == "gpu" and not has_gpu:
        raise Refused("trainer.accelerator=gpu: there is no GPU that torch can use, take trainer.accelerator=auto")
    device = torch.device("cuda", 0) if has_gpu and accelerator != "cpu" else torch.device("cpu")
    if precision == "16-mixed" and device.type == "cpu":
        raise Refused("trainer.precision=16-mixed: needs a GPU, on a CPU use trainer.precision=bf16-mixed")
    return device


def looks_for_gpu(accelerator: str) -> bool:
    """Whether `device_of` asks the driver for a GPU: a process that has asked cannot be forked for work on one."""
    return accelerator != "cpu" and torch.backends.cuda.is_built()


def dtype_of(precision: str) -> torch.dtype:
    """The number type of weights and data."""
    return DTYPES.get(precision, torch.float32)


@dataclass(frozen=True)
class Trial:
    """What one sample's forward pass shows: outputs, work, the fewest values a channel that batch norm gets."""

    output: Any
    flops: float
    values_per_channel: float


def tried(model: nn.Module, inputs: Any) -> Trial:
    """Run `model`, in evaluation, on a batch of one sample; the work counts linear and convolution layers."""
    flops, values = 0.0, math.inf

    def look(layer: Any, given: Any, output: Any) -> None:
        nonlocal flops, values
        if isinstance(layer, _BatchNorm):
            values = min(values, given[0].numel() / given[0].shape[1])
        else:
            flops += 2.0 * output.numel() * layer.weight[0].numel()

    kinds = (nn.Linear, nn.modules.conv._ConvNd, _BatchNorm)
    handles = [layer.register_forward_hook(look) for layer in model.modules() if isinstance(layer, kinds)]
    try:
        output = model(inputs)
    finally:
        for handle in handles:
            handle.remove()
    return Trial(output, flops, values)


def lay_channels_last(model: nn.Module) -> None:
    """Lay the weights of 2-D convolutions out with their channels innermost: torch lays the images out after them."""
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            module.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]


def are_one_after_the_other(tensor: Tensor) -> bool:
    """Whether its numbers lie in memory without gaps and none stands for several places."""
    sizes = sorted((stride, size) for stride, size in zip(tensor.stride(), tensor.shape, strict=True) if size > 1)
    return all(stride == math.prod(size for _, size in sizes[:place]) for place, (stride, _) in enumerate(sizes))


def threads_for(flops: float, *, cores: int) -> int:
    """The fixed rule: one thread for small work, else one a core."""
    return 1 if flops < FLOPS_WORTH_THREADS else cores


@contextmanager
def threads(number: int) -> Iterator[None]:
    """torch computes with `number` threads for the length of a block."""
    before = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def num_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
