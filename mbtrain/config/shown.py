"""A config value as one writes it, for a message."""

from typing import Any

import yaml


def shown(value: Any) -> str:
    """At most 60 characters of YAML.

    >>> shown({"a": [1, None]})
    '{a: [1, null]}'
    """
    text = "null" if value is None else yaml.safe_dump(value, default_flow_style=True, width=1000).strip()
    text = " ".join(text.removesuffix("\n...").split())
    return text if len(text) <= 60 else text[:57] + "..."
