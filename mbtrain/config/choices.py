"""The groups and their choices as the help page lists them."""

import textwrap
from collections.abc import Mapping, Sequence

WIDTH = 80


def listed(groups: Mapping[str, Sequence[str]], chosen: Mapping[str, str | None]) -> str:
    """A line a group that has choices, the one in use first.

    >>> print(listed({"model": ["cnn", "mlp"]}, {"model": "mlp"}), end="")
      model           mlp, cnn
    """
    lines = []
    for group in filter(groups.get, groups):
        current = chosen.get(group)
        choices = sorted(groups[group], key=lambda one: (one != current, one))
        head = f"  {group:<16}"
        lines += textwrap.wrap(head + ", ".join(choices), WIDTH, subsequent_indent=" " * len(head))
    return "\n".join(lines) + "\n"
