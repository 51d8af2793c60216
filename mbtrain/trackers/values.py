"""What a dashboard is given of a row: plain values, and names that do not mix an iteration's with an epoch's."""

import math
from typing import Any

AXES = ("iteration", "epoch", "samples_seen")


def values(row: dict[str, Any]) -> dict[str, Any]:
    """The row with nan for null, which in the log stands for a number that is not finite.

    >>> values({"iteration": 1, "train/loss": None})
    {'iteration': 1, 'train/loss': nan}
    """
    return {key: math.nan if value is None else value for key, value in row.items()}


def epoch_values(row: dict[str, Any]) -> dict[str, Any]:
    """The values of an epochs row, its means named apart from those of an iteration; `val/*` exists once only.

    >>> epoch_values({"iteration": 9, "train/loss": 0.5, "val/loss": 0.7})
    {'iteration': 9, 'train/loss_epoch': 0.5, 'val/loss': 0.7}
    """
    return {f"{key}_epoch" if key.startswith(("train/", "time/")) else key: value for key, value in values(row).items()}
