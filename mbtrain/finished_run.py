"""A finished run's model, from its folder alone: reading it runs no code that was not trusted for it."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from mbtrain.data.normalize import Normalize
from mbtrain.norm.groups import BnGroups
from mbtrain.plan.refused import Refused
from mbtrain.run_folder import RunFolder
from mbtrain.training.sealed import Damaged, is_sealed, read_plain, read_sealed, write_sealed

FINAL = "final.ckpt"


class FinishedModel(nn.Module):
    """Takes the data set's raw inputs: normalisation, then the model, in evaluation."""

    def __init__(self, normalize: nn.Module, model: nn.Module) -> None:
        super().__init__()
        self.normalize, self.model = normalize, model

    def forward(self, x: Any) -> Any:
        """The model's outputs of raw inputs [n, ...]."""
        return self.model(self.normalize(x))


def save_final(
    model: nn.Module, normalize: nn.Module, input_shape: tuple[int, ...] | None, num_outputs: int, folder: Path
) -> None:
    """Keep all that `load` needs beside the config: plain values and tensors."""
    constants = None
    if isinstance(normalize, Normalize):
        constants = {"mean": normalize.mean.cpu(), "std": normalize.std.cpu()}
    dtype = next(iter(model.parameters())).dtype
    content = {
        "weights": {name: value.detach().cpu() for name, value in model.state_dict().items()},
        "normalize": constants,
        "input_shape": input_shape,
        "num_outputs": num_outputs,
        "is_double": dtype == torch.float64,
    }
    write_sealed(content, folder / FINAL)


def load(run_dir: str | Path, *, trust: Sequence[str] = ()) -> nn.Module:
    """The trained model of a finished run, in evaluation, on the CPU; it takes raw inputs.

    Only `trust` given here counts: what the saved config lists does not. Raises Refused.
    """
    from mbtrain.assembly import build_model

    folder = RunFolder(Path(run_dir))
    content = _read(folder.checkpoints / FINAL, read_sealed)
    saved = folder.saved_config()
    config = saved | {"trust": list(trust)}
    shape = content["input_shape"]
    groups = BnGroups(example_weight=saved["batch_norm"]["example_weight"])
    with torch.random.fork_rng(devices=[]):
        model = build_model(
            config, groups, input_shape=None if shape is None else tuple(shape), num_outputs=content["num_outputs"]
        )
    dtype = torch.float64 if content["is_double"] else torch.float32
    _fill(model.to(dtype), content, f"{run_dir}: its weights")
    constants = content["normalize"]
    normalize = nn.Identity() if constants is None else Normalize(constants["mean"], constants["std"], dtype=dtype)
    return FinishedModel(normalize, model).eval()


def load_weights(model: nn.Module, path: Path) -> None:
    """Start `model` from the weights of a run's folder or of a checkpoint file; Refused where they do not fit."""
    if path.is_dir():
        content = _read(path / "checkpoints" / FINAL, read_sealed)
    else:
        # A file of the user's own has no seal.
        content = _read(path, lambda file: read_sealed(file) if is_sealed(file) else read_plain(file))
    _fill(model, content, f"model.weights={path}:")


def fill_from_checkpoint(model: nn.Module, path: Path, checkpoint: Mapping[str, Any]) -> None:
    """Give `model` the weights of a run that goes on; Refused where today's code makes another model."""
    named = {name: one for name, one in checkpoint["state_dict"].items() if name.startswith("model.")}
    weights = {name.removeprefix("model."): one for name, one in named.items()}
    told = f"{path}: go on with the code that began this run, or begin another with a run_dir of its own: its weights"
    _fill(model, {"weights": weights}, told)


def _fill(model: nn.Module, content: dict[str, Any], told: str) -> None:
    try:
        model.load_state_dict(content["weights"])
    except (KeyError, TypeError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:160]
        raise Refused(f"{told} do not fit the model: {reason}") from None


def _read(path: Path, read: Callable[[Path], Any]) -> dict[str, Any]:
    try:
        return read(path)
    except FileNotFoundError:
        raise Refused(f"{path}: there is no such file: has the run finished?") from None
    except (Damaged, OSError) as error:
        raise Refused(f"{path}: {error}") from None
