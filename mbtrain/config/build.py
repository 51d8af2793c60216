"""The one place where `_target_` becomes an object."""

import importlib
import inspect
from collections.abc import Mapping, Sequence
from typing import Any

from mbtrain.config.nearest import nearest
from mbtrain.config.trust import refuse_unfit, refuse_untrusted
from mbtrain.plan.refused import Refused


def build(
    node: Mapping[str, Any],
    *,
    key: str,
    trust: Sequence[str] = (),
    offered: Mapping[str, object] | None = None,
    leave: Sequence[str] = (),
) -> Any:
    """Call what `node["_target_"]` names with the node's other keys as arguments, nodes inside them built first.

    Of `offered` it is given what its signature asks for by name (what the node says itself wins); `leave` are keys that
    are not its arguments. Raises Refused, with `key`, for what is not trusted, not there, or called wrongly.

    >>> build({"_target_": "torch.nn.Linear", "in_features": 2}, key="model", offered={"out_features": 1})
    Linear(in_features=2, out_features=1, bias=True)
    """
    maker = find(str(node["_target_"]), key=key, trust=trust)
    arguments = {
        name: _built(value, key=f"{key}.{name}", trust=trust)
        for name, value in node.items()
        if name != "_target_" and name not in leave
    }
    signature = _signature(maker)
    if signature is not None:
        asked = signature.parameters
        arguments = {name: value for name, value in (offered or {}).items() if name in asked} | arguments
        _check_call(signature, arguments, key=key, target=str(node["_target_"]))
    return maker(**arguments)


def find(target: str, *, key: str, trust: Sequence[str] = ()) -> Any:
    """The class or function called `target`; Refused unless it is trusted, before any import."""
    refuse_untrusted(target, key=key, trust=trust)
    found = _import(target, key=key)
    refuse_unfit(found, target, key=key, trust=trust)
    return found


def _import(target: str, *, key: str) -> Any:
    """Import the longest module in `target` and follow the rest; a module's own failing imports are not hidden."""
    parts = target.split(".")
    for length in range(len(parts) - 1, 0, -1):
        name = ".".join(parts[:length])
        try:
            found: Any = importlib.import_module(name)
        except ModuleNotFoundError as error:
            if error.name is not None and (name == error.name or name.startswith(f"{error.name}.")):
                continue
            raise
        for attribute in parts[length:]:
            if not hasattr(found, attribute):
                raise Refused(f"{key}._target_={target}: {name} has no {attribute}")
            found = getattr(found, attribute)
        return found
    raise Refused(f"{key}._target_={target}: no module {parts[0]} (the working folder is looked in)")


def _built(value: Any, *, key: str, trust: Sequence[str]) -> Any:
    if isinstance(value, Mapping):
        if "_target_" in value:
            return build(value, key=key, trust=trust)
        return {name: _built(one, key=f"{key}.{name}", trust=trust) for name, one in value.items()}
    if isinstance(value, list):
        return [_built(one, key=f"{key}[{index}]", trust=trust) for index, one in enumerate(value)]
    return value


def _signature(maker: Any) -> inspect.Signature | None:
    try:
        return inspect.signature(maker)
    except (TypeError, ValueError):
        return None


def _check_call(signature: inspect.Signature, arguments: Mapping[str, Any], *, key: str, target: str) -> None:
    kinds = {parameter.kind for parameter in signature.parameters.values()}
    names = list(signature.parameters)
    if inspect.Parameter.VAR_KEYWORD not in kinds:
        for name in arguments:
            if name not in names:
                hint = nearest(name, names, prefix=[key])
                raise Refused(
                    f"{key}.{name}={arguments[name]}: {target} takes no {name}{hint}; it takes {', '.join(names)}"
                )
    for name, parameter in signature.parameters.items():
        is_plain = parameter.kind in (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
        if is_plain and parameter.default is inspect.Parameter.empty and name not in arguments:
            raise Refused(f"{key}.{name}: {target} needs it, give {key}.{name}=VALUE")
