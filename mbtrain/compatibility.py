"""Whether data, model and loss go together: one sample goes through them before anything is trained."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from mbtrain.data.prepare import Data
from mbtrain.losses.contract import Loss, losses_of
from mbtrain.plan.refused import Refused
from mbtrain.training.kept import KeptAttributes
from mbtrain.training.place import Trial, tried


def name_of(node: Mapping[str, Any]) -> str:
    """The name of the class that a section of the config builds."""
    return str(node["_target_"]).rsplit(".", 1)[-1]


def try_out(config: Mapping[str, Any], data: Data, model: nn.Module, loss: Loss, num_outputs: int) -> Trial:
    """One sample through model and loss, without a trace: shapes and types go together, or Refused."""
    source = data.train
    inputs, target = source.read([0])
    was_training, kept = model.training, KeptAttributes([model])
    try:
        with torch.no_grad():
            trial = tried(model.eval(), inputs)
            _check_pair(config, trial.output, target, num_outputs)
            losses_of(loss, trial.output, target)
    except Refused:
        raise
    except (RuntimeError, ValueError, TypeError, IndexError) as error:
        shape = list(inputs.shape[1:]) if isinstance(inputs, torch.Tensor) else type(inputs).__name__
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise Refused(
            f"model={name_of(config['model'])} and loss={name_of(config['loss'])} do not take the data "
            f"(one sample has shape {shape}, target {target.dtype}): {reason}"
        ) from error
    finally:
        model.train(was_training)
        kept.put_back()
    return trial


def _check_pair(config: Mapping[str, Any], output: Any, target: torch.Tensor, num_outputs: int) -> None:
    """Catch the pairs of loss and target that torch computes without a word."""
    name = name_of(config["loss"])
    if name.startswith("CrossEntropy") and target.is_floating_point():
        raise Refused(f"loss={name}: the targets are numbers, not classes: take loss=mse, or give whole-number targets")
    if name in ("MeanSquaredError", "MeanAbsoluteError", "MSELoss", "L1Loss") and not target.is_floating_point():
        raise Refused(f"loss={name}: the targets are classes, not numbers: take loss=cross_entropy")
    if isinstance(output, torch.Tensor) and name.startswith("CrossEntropy") and output.shape[1:2] != (num_outputs,):
        raise Refused(
            f"model={name_of(config['model'])}: gives {list(output.shape)[1:]} outputs for {num_outputs} classes"
        )
