"""Types of config values, each with the words that say what is allowed; no torch."""

import re
from collections.abc import Callable, Iterable
from typing import Annotated, Any

from pydantic import PlainValidator, WithJsonSchema

from mbtrain.plan.duration import ALLOWED as DURATION
from mbtrain.plan.duration import Duration


def _field(check: Callable[[Any], bool], allowed: str) -> Any:
    def validate(value: Any) -> Any:
        if not check(value):
            raise ValueError(allowed)
        return value

    return Annotated[Any, PlainValidator(validate), WithJsonSchema({"description": allowed})]


def or_null(field: Any) -> Any:
    """The same field, or null."""
    check, allowed = _parts(field)
    return _field(lambda value: value is None or check(value), f"{allowed}, or null")


def either(first: Any, second: Any) -> Any:
    """What one of two fields takes."""
    (check_a, allowed_a), (check_b, allowed_b) = _parts(first), _parts(second)
    return _field(lambda value: check_a(value) or check_b(value), f"{allowed_a}, or {allowed_b}")


def allowed_of(field: Any) -> str:
    """The words of a field."""
    return _parts(field)[1]


def _parts(field: Any) -> tuple[Callable[[Any], bool], str]:
    validator = next(one for one in field.__metadata__ if isinstance(one, PlainValidator))
    words = next(one for one in field.__metadata__ if isinstance(one, WithJsonSchema))

    def check(value: Any) -> bool:
        try:
            validator.func(value)  # pyright: ignore[reportCallIssue]
        except ValueError:
            return False
        return True

    return check, (words.json_schema or {})["description"]


def whole(minimum: int, maximum: int | None = None) -> Any:
    """A whole number; true is none."""
    words = f"a whole number of at least {minimum}" + (f" and at most {maximum:,}" if maximum is not None else "")
    return _field(
        lambda v: isinstance(v, int) and not isinstance(v, bool) and v >= minimum and (maximum is None or v <= maximum),
        words,
    )


def number(*, above: float | None = None, at_least: float | None = None, below: float | None = None) -> Any:
    """A finite number between bounds."""

    def check(value: Any) -> bool:
        if not isinstance(value, int | float) or isinstance(value, bool) or not abs(value) < float("inf"):
            return False
        return not (
            (above is not None and value <= above)
            or (at_least is not None and value < at_least)
            or (below is not None and value >= below)
        )

    bounds = [f"above {above:g}" if above is not None else "", f"at least {at_least:g}" if at_least is not None else ""]
    bounds.append(f"below {below:g}" if below is not None else "")
    return _field(check, " ".join(["a number", " and ".join(filter(None, bounds))]).strip())


def choice(*names: Any) -> Any:
    """One of some words."""
    return _field(lambda v: any(v is n or (v == n and type(v) is type(n)) for n in names), _listed(names))


def _listed(names: Iterable[Any]) -> str:
    return "one of " + ", ".join("null" if name is None else str(name) for name in names)


def _is_duration(value: Any) -> bool:
    try:
        Duration.parse(value)
    except ValueError:
        return False
    return True


def _is_target(value: Any) -> bool:
    return isinstance(value, str) and bool(
        re.fullmatch(r"\s*val/\w+\s*(<=|>=|<|>)\s*[-+]?[\d.]+([eE][-+]?\d+)?\s*", value)
    )


FLAG = _field(lambda v: isinstance(v, bool), "true or false")
TEXT = _field(lambda v: isinstance(v, str) and bool(v), "a text")
NAME = _field(
    lambda v: isinstance(v, str) and bool(re.fullmatch(r"[\w.,=+-]{1,120}", v)),
    "a name of letters, digits and .,=+-_ for folders and trackers",
)
TEXTS = _field(lambda v: isinstance(v, list) and all(isinstance(one, str) for one in v), "a list of texts")
LENGTH = _field(_is_duration, DURATION)
GOAL = _field(_is_target, "a target such as val/loss<1.6 or val/accuracy>=0.9")
SCORE = _field(lambda v: isinstance(v, str) and bool(re.fullmatch(r"val/\w+", v)), "a score such as val/loss")
ANYTHING = _field(lambda v: True, "anything that the class it names takes")
MAPPING = _field(lambda v: isinstance(v, dict), "a mapping")
EITHER_MAPPING = _field(lambda v: v is None or isinstance(v, dict | list | str), "null, names or a mapping")
