"""The words that are typed for the classes of rules."""

import re


def typed(name: str) -> str:
    """The word on the command line for a class of rules.

    >>> typed("mbtrain.plan.scaling.AdamHalfLife"), typed("mbtrain.plan.scaling.Unscaled")
    ('adam_half_life', 'none')
    """
    word = re.sub(r"(?<!^)(?=[A-Z])", "_", name.rsplit(".", 1)[-1]).lower()
    return "none" if word == "unscaled" else word
