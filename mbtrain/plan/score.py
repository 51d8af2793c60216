"""Which of two scores is better."""

import math

LOWER_IS_BETTER = ("loss", "mse", "mae")


def is_better(name: str, value: float, *, than: float | None) -> bool:
    """Whether `value` of the score `name` (val/loss, val/accuracy) beats `than`; None and nan are beaten by any number.

    >>> is_better("val/loss", 1.0, than=2.0), is_better("val/accuracy", 1.0, than=2.0)
    (True, False)
    """
    if than is None or math.isnan(than):
        return not math.isnan(value)
    return value < than if name.rsplit("/", 1)[-1] in LOWER_IS_BETTER else value > than
