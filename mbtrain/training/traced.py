"""A function compiled by torch, and called as torch left it.

`torch.compile` puts a wrapper around what it compiles, which at each call asks whether the compiled code still holds
for what has become of everything that the function has read. On a small model that takes as long as the rest of the
iteration. Here the question is asked at the second call, and again when somebody asks for it (`look_again`); between
two such moments the compiled code is called straight away. Whoever calls must know that it is the code for this call,
and says so by a kind: what was compiled for one kind of call serves all calls of that kind.
"""

import re
from collections.abc import Callable, Hashable, Sequence
from types import FunctionType, MethodType
from typing import Any

import torch

Function = Callable[..., Any]
Kind = Callable[..., Hashable]
# Names by which Dynamo speaks of what the compiled functions hold: mbtrain.training.compiled and step.
_OURS = re.compile(r"(?:dict\(|type\()*(?:self|step|rule|example)\b")


def one_kind(*given: Any) -> None:
    """All calls are of one kind."""


class Traced:
    """`function` compiled, by kind of call: traced at a kind's first call, and held to that trace at the second."""

    def __init__(self, function: Function, kind: Kind = one_kind) -> None:
        self._function, self._kind = function, kind
        self._guarded: dict[Hashable, tuple[Function, Function]] = {}
        self._direct: dict[Hashable, Function] = {}

    def __call__(self, *given: Any) -> Any:
        """What `function` gives; raises an error of torch._dynamo's where another trace would be needed."""
        kind = self._kind(*given)
        direct = self._direct.get(kind)
        return direct(*given) if direct is not None else self._by_torch(kind, given)

    def look_again(self) -> None:
        """Ask at the next call of each kind whether the compiled code still holds."""
        self._direct.clear()

    def _by_torch(self, kind: Hashable, given: tuple[Any, ...]) -> Any:
        import torch._dynamo.config as dynamo

        if kind not in self._guarded:
            own = _with_own_code(self._function)
            guarded = torch.compile(own, fullgraph=True, options={"guard_filter_fn": _looked_at})
            self._guarded[kind] = own, guarded
            return guarded(*given)
        own, guarded = self._guarded[kind]
        with dynamo.patch(error_on_recompile=True):
            left = guarded(*given)
        if (made := _made_of(own)) is not None:
            self._direct[kind] = made
        return left


def _with_own_code(function: Any) -> Any:
    """The same function with code of its own: torch keeps with the code what it compiled of it, and would take for one
    run what it compiled for another."""
    if isinstance(function, MethodType):
        return MethodType(_with_own_code(function.__func__), function.__self__)
    return _with_code(function, function.__code__.replace())


def _made_of(function: Any) -> Function | None:
    """What torch has compiled of `function`, without the wrapper; None where it is not one piece of code."""
    if isinstance(function, MethodType):
        made = _made_of(function.__func__)
        return None if made is None else MethodType(made, function.__self__)
    entries = torch._dynamo.eval_frame._debug_get_cache_entry_list(function.__code__)
    return _with_code(function, entries[0].code) if len(entries) == 1 else None


def _with_code(function: FunctionType, code: Any) -> FunctionType:
    return FunctionType(code, function.__globals__, function.__name__, function.__defaults__, function.__closure__)


def _looked_at(entries: Sequence[Any]) -> list[bool]:
    """Which of all that the traced code has read is looked at, when it is: not what is ours, which moves from call to
    call in ways that the compiled code does not depend on; but the model and the loss in it."""
    return [
        _OURS.match(one.name) is None or ".forward.model" in one.name or ".forward.loss" in one.name for one in entries
    ]
