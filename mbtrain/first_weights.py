"""A model's first weights, where they are not those that it was made with."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import nn

from mbtrain.data.sources import Source

# Training inputs by which a model may set its first weights.
NUM_SHOWN = 5000


def set_first_weights(config: Mapping[str, Any], model: nn.Module, train: Source) -> None:
    """Take them from `model.weights`; without it, let a model that has a `start_from` set them by training inputs."""
    path = config["model"]["weights"]
    if path is not None:
        from mbtrain.finished_run import load_weights

        load_weights(model, Path(path))
    elif hasattr(model, "start_from"):
        inputs, _ = train.read(range(min(NUM_SHOWN, len(train))))
        model.start_from(inputs)  # pyright: ignore[reportCallIssue]
