"""Kinds of config values, each with the words that say what is allowed; no torch."""

import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from mbtrain.config.trust import PACKAGE
from mbtrain.plan.duration import ALLOWED as DURATION
from mbtrain.plan.duration import Duration
from mbtrain.plan.refused import Refused


@dataclass(frozen=True)
class Kind:
    """What a key takes: a test, and the words for it."""

    takes: Callable[[Any], bool]
    allowed: str

    def __or__(self, other: "Kind") -> "Kind":
        """What either takes."""
        return Kind(lambda value: self.takes(value) or other.takes(value), f"{self.allowed}, or {other.allowed}")


def whole(minimum: int | None = None, maximum: int | None = None) -> Kind:
    """A whole number; true is none.

    >>> whole(1).takes(True), whole(1).takes(1)
    (False, True)
    """
    bounds = {"of at least": minimum, "at most": maximum}
    words = " and ".join(f"{name} {bound:,}" for name, bound in bounds.items() if bound is not None)

    def takes(value: Any) -> bool:
        is_whole = isinstance(value, int) and not isinstance(value, bool)
        return is_whole and (minimum is None or value >= minimum) and (maximum is None or value <= maximum)

    return Kind(takes, f"a whole number {words}".strip())


def number(
    *,
    above: float = -math.inf,
    at_least: float = -math.inf,
    below: float = math.inf,
    at_most: float = math.inf,
) -> Kind:
    """A finite number between bounds.

    >>> number(above=0, at_most=1).allowed
    'a number above 0 and at most 1'
    """

    def takes(value: Any) -> bool:
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        # Neither nan nor an infinity is within open bounds.
        return is_number and above < value < below and at_least <= value <= at_most

    bounds = {"above": above, "of at least": at_least, "below": below, "at most": at_most}
    words = " and ".join(f"{name} {bound:g}" for name, bound in bounds.items() if math.isfinite(bound))
    return Kind(takes, f"a number {words}".strip())


def list_of(kind: Kind, words: str) -> Kind:
    """A list of what `kind` takes, in words."""
    return Kind(lambda value: isinstance(value, list) and all(map(kind.takes, value)), f"a list of {words}")


def choice(first: str | int, *others: str | int) -> Kind:
    """One of some words."""
    names = (first, *others)
    words = "one of " + ", ".join(map(str, names)) if others else str(first)
    return Kind(lambda value: any(value == one and type(value) is type(one) for one in names), words)


def text(pattern: str, allowed: str) -> Kind:
    """A text of a form."""
    compiled = re.compile(pattern)
    return Kind(lambda value: isinstance(value, str) and compiled.fullmatch(value) is not None, allowed)


def _is_duration(value: Any) -> bool:
    try:
        Duration.parse(value)
    except Refused:
        return False
    return True


def _are_packages(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(one, str) and PACKAGE.fullmatch(one) for one in value)


def _are_betas(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 2 and all(map(number(at_least=0, below=1).takes, value))


NULL = Kind(lambda value: value is None, "null")
FLAG = Kind(lambda value: isinstance(value, bool), "true or false")
TEXT = text(r"(?s).*\S.*", "a text")
NAME = text(r"(?!\.)[\w.,=+-]{1,120}", "a name of at most 120 letters, digits and .,=+-_, no dot first")
LENGTH = Kind(_is_duration, DURATION)
GOAL = text(r"\s*val/\w+\s*(<=|>=|<|>)\s*[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?\s*", "a target such as val/loss<1.6")
SCORE = text(r"val/\w+", "a score such as val/loss")
PACKAGES = Kind(_are_packages, "a list of packages such as [my_data]")
BETAS = Kind(_are_betas, "two numbers of at least 0 and below 1, such as [0.9,0.999]")
MAPPING = Kind(lambda value: isinstance(value, dict), "a mapping")
NAMES = Kind(lambda value: isinstance(value, dict | list | str), "names or a mapping")
