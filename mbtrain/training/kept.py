"""What a forward pass or an update changes, copied and put back bit for bit."""

import copy
import random
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from mbtrain.optim.ema import Ema


class KeptBuffers:
    """The buffers of a model (running statistics, which every micro-batch moves), kept before each iteration."""

    def __init__(self, model: nn.Module) -> None:
        self._places = [(module._buffers, name) for module in model.modules() for name in module._buffers]
        self._buffers: list[Tensor | None] = []
        self._copies: list[Tensor | None] = []

    @torch.no_grad()
    def keep(self) -> None:
        """Copy what is there now."""
        self._buffers = [buffers[name] for buffers, name in self._places]
        self._copies = [None if one is None else one.clone() for one in self._buffers]

    @torch.no_grad()
    def put_back(self) -> None:
        """The same tensors, with the same bits."""
        for (buffers, name), one, kept in zip(self._places, self._buffers, self._copies, strict=True):
            if one is not None and kept is not None:
                one.copy_(kept)
            buffers[name] = one


class KeptAttributes:
    """What modules hold besides parameters and buffers: plain values, lists and mappings of them, tensors."""

    @torch.no_grad()
    def __init__(self, roots: Sequence[nn.Module]) -> None:
        self._kept = [
            (module, {name: (value, _copy(value)) for name, value in attributes(module)})
            for root in roots
            for module in root.modules()
        ]

    @torch.no_grad()
    def put_back(self) -> None:
        """What was there, with what it held; what has come is gone."""
        for module, kept in self._kept:
            for name in [name for name, _ in attributes(module) if name not in kept]:
                del vars(module)[name]
            for name, (value, copied) in kept.items():
                if isinstance(value, Tensor):
                    vars(module)[name] = value.copy_(copied)
                elif vars(module).get(name) != copied:
                    vars(module)[name] = copied


class KeptState:
    """Weights, buffers, attributes, averaged weights and the optimizer's state; the copies lie on the host."""

    @torch.no_grad()
    def __init__(
        self, model: nn.Module, optimizer: torch.optim.Optimizer, ema: Ema | None, *, loss: object = None
    ) -> None:
        modules = [one for one in (model, loss) if isinstance(one, nn.Module)]
        self._optimizer, self._buffers = optimizer, [KeptBuffers(one) for one in modules]
        self._attributes = KeptAttributes(modules)
        for one in self._buffers:
            one.keep()
        self._tensors = [*model.parameters(), *([] if ema is None else ema.average)]
        self._copies = [_on_host(one) for one in self._tensors]
        self._gradients = [(one, one.grad) for one in model.parameters()]
        self._state = {parameter: _copied(dict(state)) for parameter, state in optimizer.state.items()}
        self._options = [copy.deepcopy(_options(group)) for group in optimizer.param_groups]

    @torch.no_grad()
    def put_back(self) -> None:
        """All of it as it was; what an update has made new in the optimizer's state is gone."""
        self._attributes.put_back()
        for one in self._buffers:
            one.put_back()
        for one, kept in zip(self._tensors, self._copies, strict=True):
            one.copy_(kept)
        for parameter, gradient in self._gradients:
            parameter.grad = gradient
        for parameter in [one for one in self._optimizer.state if one not in self._state]:
            del self._optimizer.state[parameter]
        for parameter, kept in self._state.items():
            _put_back(self._optimizer.state[parameter], kept)
        for group, options in zip(self._optimizer.param_groups, self._options, strict=True):
            group.update(options)


def attributes(module: nn.Module) -> Iterator[tuple[str, Any]]:
    """(name, value) of a module's own plain values, containers of them, and unregistered tensors."""
    for name, value in vars(module).items():
        if name not in _OF_TORCH and (isinstance(value, Tensor) or _is_plain(value)):
            yield name, value


@contextmanager
def kept_generators(device: torch.device) -> Iterator[None]:
    """After the block the generators of torch, numpy and Python stand where they stood."""
    python, numpy = random.getstate(), np.random.get_state()
    devices = [device.index or 0] if device.type == "cuda" else []
    try:
        with torch.random.fork_rng(devices=devices):
            yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)


# What torch keeps in every module; its mode is one's own.
_OF_TORCH = set(vars(nn.Module())) - {"training"}


def _is_plain(value: Any) -> bool:
    if isinstance(value, Mapping):
        return all(_is_plain(one) for pair in value.items() for one in pair)
    if isinstance(value, list | tuple | set):
        return all(_is_plain(one) for one in value)
    return value is None or isinstance(value, bool | int | float | str)


def _copy(value: Any) -> Any:
    return value.clone() if isinstance(value, Tensor) else copy.deepcopy(value)


def _on_host(tensor: Tensor) -> Tensor:
    return tensor.detach().to("cpu", copy=True)


def _options(group: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in group.items() if name != "params"}


def _copied(state: dict[str, Any]) -> dict[str, Any]:
    return {
        name: _on_host(value) if isinstance(value, Tensor) else copy.deepcopy(value) for name, value in state.items()
    }


def _put_back(state: dict[str, Any], kept: dict[str, Any]) -> None:
    for name in [one for one in state if one not in kept]:
        del state[name]
    for name, value in kept.items():
        if isinstance(state.get(name), Tensor) and isinstance(value, Tensor):
            state[name].copy_(value)
        else:
            state[name] = copy.deepcopy(value)
