"""In the place of what torch compiles: the function as it is."""

from collections.abc import Callable
from typing import Any


class Untraced:
    """Calls the function."""

    def __init__(self, function: Callable[..., Any], kind: Any = None) -> None:
        self._function = function

    def __call__(self, *given: Any) -> Any:
        """What it gives."""
        return self._function(*given)

    def look_again(self) -> None:
        """There is nothing to look at."""
