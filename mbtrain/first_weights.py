"""A model's first weights, where they are not those that it was made with."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from mbtrain.data.loader import Fetched
from mbtrain.data.sources import MemorySource, Source
from mbtrain.plan.refused import Refused
from mbtrain.training.kept import kept_generators
from mbtrain.training.place import device_of

# Training inputs by which a model may set its first weights, and how many bytes of them at most.
NUM_SHOWN, BYTES_SHOWN = 5000, 256_000_000


def set_first_weights(config: Mapping[str, Any], model: nn.Module, train: Source) -> None:
    """Take them from `model.weights`; without it, let a model that has a `start_from` set them by training inputs."""
    path, start_from = config["model"]["weights"], getattr(model, "start_from", None)
    if path is not None:
        from mbtrain.finished_run import load_weights

        load_weights(model, Path(path))
    elif callable(start_from):
        device = device_of(config["trainer"]["accelerator"], config["trainer"]["precision"])
        try:
            # What the data set or the model draws is a function of the seed, and moves no generator.
            with kept_generators(device):
                start_from(_shown(train, config["seed"]))
        except (RuntimeError, ValueError, TypeError) as error:
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            raise Refused(f"model={type(model).__name__}: start_from does not take the data: {reason}") from error


def _shown(train: Source, seed: int) -> Any:
    num = min(NUM_SHOWN, len(train))
    if isinstance(train, MemorySource):
        return train.slice(0, _most(train.x, num))[0]
    fetched = Fetched(train, seed)
    first = train.convert(fetched[0, [0]])[0]
    return train.convert(fetched[0, list(range(_most(first, num)))])[0]


def _most(inputs: Any, num: int) -> int:
    """So many of `num` that they take no more than BYTES_SHOWN."""
    if not isinstance(inputs, Tensor):
        return num
    return min(num, max(1, BYTES_SHOWN // (inputs[0].numel() * inputs.element_size())))
