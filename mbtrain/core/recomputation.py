"""Activation checkpointing: what is inside a model's blocks is forgotten after the forward pass and computed again.

Chen et al., arXiv 1604.06174. The backward pass runs a block a second time, from its input. That second pass meets the
parameters and buffers that the first one met, and leaves none changed: batch norm counts a micro-batch once. Dropout
draws the same masks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

# What is called one after the other, and the modules whose parameters and buffers it meets.
Steps = Sequence[Callable[..., Any]]


def recompute_blocks(model: nn.Module) -> int:
    """Have the blocks of `model` recomputed, in place; how many there are.

    The blocks are the children of the outermost nn.Sequential, nn.ModuleList or nn.ModuleDict, or of several that stand
    side by side; where there is none, the outermost modules side by side that have children of their own. In a
    Sequential a block begins at each child that has a weight matrix or children: a norm and an activation go with
    their convolution.

    >>> recompute_blocks(nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 1)))
    2
    """
    found = list(_blocks(model))
    for owner, blocks in found:
        owner.forward = Recomputed(owner, blocks)
    return sum(len(blocks) for _, blocks in found)


class Recomputed:
    """The forward pass of a module as blocks one after the other, each computed again in the backward pass."""

    def __init__(self, owner: nn.Module, blocks: Sequence[Steps]) -> None:
        self._blocks = [_Block(steps, owner) for steps in blocks]

    def __call__(self, *inputs: Any, **options: Any) -> Any:
        """The module's output."""
        output = self._blocks[0](*inputs, **options)
        for block in self._blocks[1:]:
            output = block(output)
        return output


class _Block:
    def __init__(self, steps: Steps, owner: nn.Module) -> None:
        self._steps = steps
        parts = [step for step in steps if isinstance(step, nn.Module)] or [owner]
        self._modules = [module for part in parts for module in part.modules()]

    def __call__(self, *inputs: Any, **options: Any) -> Any:
        # torch.func's transforms cannot hold what a recomputation needs.
        if not torch.is_grad_enabled() or torch._C._are_functorch_transforms_active():
            return self._run(*inputs, **options)
        met = _Met(self._modules)
        return checkpoint(self._run, *inputs, use_reentrant=False, context_fn=lambda: (nullcontext(), met), **options)

    def _run(self, *inputs: Any, **options: Any) -> Any:
        output = self._steps[0](*inputs, **options)
        for step in self._steps[1:]:
            output = step(output)
        return output


class _Met:
    """Within it, modules have the parameters and the buffers' values that they had when it was made.

    Other tensors are put in their place: written over, those in the modules could no longer be differentiated through.
    """

    def __init__(self, modules: Sequence[nn.Module]) -> None:
        self._met = [
            (one, dict(one._parameters), _cloned(one._buffers)) for one in modules if one._parameters or one._buffers
        ]
        self._now: list[tuple[nn.Module, dict[str, Any], dict[str, Any]]] = []

    def __enter__(self) -> None:
        self._now = [(one, dict(one._parameters), dict(one._buffers)) for one, _, _ in self._met]
        # Cloned again: a graph that is kept may be walked twice.
        _put([(one, parameters, _cloned(buffers)) for one, parameters, buffers in self._met])

    def __exit__(self, *_: object) -> None:
        _put(self._now)


@torch.no_grad()
def _cloned(buffers: dict[str, Tensor | None]) -> dict[str, Tensor | None]:
    return {name: None if one is None else one.clone() for name, one in buffers.items()}


def _put(tensors: Sequence[tuple[nn.Module, dict[str, Any], dict[str, Any]]]) -> None:
    for module, parameters, buffers in tensors:
        module._parameters.update(parameters)
        module._buffers.update(buffers)


def _blocks(module: nn.Module) -> Iterator[tuple[nn.Module, list[Steps]]]:
    """(a module, the blocks of its forward pass) of each module to change."""
    if isinstance(module, nn.ModuleList | nn.ModuleDict) or len(_sections(module)) > 1:
        yield from _blocks_beside(module)
        return
    inner = [child for child in module.children() if _has_children(child)]
    if len(inner) == 1:
        yield from _blocks(inner[0])
    else:
        for child in inner:
            yield from _blocks_beside(child)


def _blocks_beside(module: nn.Module) -> Iterator[tuple[nn.Module, list[Steps]]]:
    """Those of a module that is not looked into any deeper."""
    if isinstance(module, nn.ModuleList | nn.ModuleDict):
        for child in module.children():
            if _has_children(child):
                yield child, [[child.forward]]
    else:
        sections = _sections(module)
        yield module, sections if len(sections) > 1 else [[module.forward]]


def _sections(module: nn.Module) -> list[Steps]:
    """The children of a Sequential in sections, each with one weight matrix or one module of several parts."""
    # One with a forward pass of its own, such as a residual, is no chain.
    if not isinstance(module, nn.Sequential) or type(module).forward is not nn.Sequential.forward:
        return []
    sections: list[list[nn.Module]] = []
    has_weight = True
    for child in module:
        is_heavy = _has_children(child) or any(one.dim() > 1 for one in child.parameters())
        if not sections or (is_heavy and has_weight):
            sections.append([])
            has_weight = False
        sections[-1].append(child)
        has_weight |= is_heavy
    return [list(section) for section in sections]


def _has_children(module: nn.Module) -> bool:
    return next(module.children(), None) is not None
