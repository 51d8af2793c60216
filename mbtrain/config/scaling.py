"""The scaling that a config names, and what is wrong with it as far as that can be known without data or torch."""

from collections.abc import Iterator, Mapping
from typing import Any

from mbtrain.config.build import build
from mbtrain.config.schedules import is_constant
from mbtrain.plan.refused import Refused
from mbtrain.plan.scaling import Scaling
from mbtrain.plan.words import typed

OPTIONS = ("reference_size", "batch_norm_momentum", "weight_decay")


def scaling_of(config: Mapping[str, Any]) -> Scaling:
    """The rule built, with the options that every rule shares."""
    node = config["scaling"]
    rule = build(node, key="scaling", trust=config["trust"], leave=OPTIONS)
    return Scaling(rule, **{name: node[name] for name in OPTIONS})


def scaling_conflicts(config: Mapping[str, Any]) -> Iterator[str]:
    """A line where the reference size is missing, or a rule of ours is not defined."""
    node, optimizer, size = config["scaling"], config["optimizer"], config["batch"]["size"]
    name = typed(node["_target_"])
    if node["reference_size"] is None and (name != "none" or node["batch_norm_momentum"] or node["weight_decay"]):
        yield (
            f"scaling.reference_size=null: scaling={name} needs the batch size that optimizer.lr and the other values "
            "are meant for, such as scaling.reference_size=32"
        )
    if name != "none" and typed(config["batch_schedule"]["_target_"]) == "grow":
        yield f"scaling={name}: would give back the noise that batch_schedule=grow takes away: set scaling=none"
    # An optimizer that does not say its betas has torch's: known once it is built.
    elif size != "all" and is_constant(config) and ("betas" in optimizer or optimizer["_target_"] == "torch.optim.SGD"):
        try:
            # Rules of ours take no options of their own; one that is given is told of elsewhere.
            if node["_target_"].startswith("mbtrain.") and set(node) == {"_target_", *OPTIONS}:
                scaling_of(config).changed(optimizer, size)
        except Refused as error:
            yield str(error)
