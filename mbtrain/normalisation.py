"""What the config says of batch norm as a whole, and of what a model keeps for its backward pass."""

from collections.abc import Mapping
from typing import Any

from torch import nn

from mbtrain.compatibility import name_of
from mbtrain.core.recomputation import recompute_blocks
from mbtrain.data.draw import Draw
from mbtrain.data.loader import Cut
from mbtrain.data.sources import Source
from mbtrain.norm.groups import BnGroups
from mbtrain.norm.recalibration import Recalibration
from mbtrain.plan.duration import Duration
from mbtrain.plan.ramp import renorm_limits
from mbtrain.plan.refused import Refused
from mbtrain.plan.run import RunPlan


def groups_of(config: Mapping[str, Any], plan: RunPlan) -> BnGroups:
    """What the batch-norm layers share."""
    norm = config["batch_norm"]
    half_life = None if norm["half_life"] is None else float(plan.samples(Duration.parse(norm["half_life"])))
    options = {"half_life": half_life, "example_weight": norm["example_weight"]}
    if norm["kind"] == "renorm":
        options["limits"] = renorm_limits(norm, plan)
    return BnGroups(**options)


def recalibration_of(
    config: Mapping[str, Any], model: nn.Module, groups: BnGroups, train: Source, plan: RunPlan, cut: Cut
) -> Recalibration:
    """How `batch_norm.recalibrate` measures precise statistics, where it is asked to."""
    wanted = config["batch_norm"]["recalibrate_samples"]
    num_samples = len(train) if wanted == "all" else wanted
    draw = Draw(train, cut, num_samples=num_samples, batch_size=plan.batch_size, seed=config["seed"])
    return Recalibration(model, groups, draw)


def recompute(config: Mapping[str, Any], model: nn.Module) -> None:
    """Have the model's blocks computed again in the backward pass, where the config says so; Refused without blocks."""
    if config["trainer"]["activation_checkpointing"] and not recompute_blocks(model):
        raise Refused(
            f"trainer.activation_checkpointing=true: model={name_of(config['model'])} has no "
            "blocks to compute again: put them into an nn.Sequential or nn.ModuleList"
        )
