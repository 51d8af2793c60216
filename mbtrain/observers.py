"""What looks on while a run trains: its probes, and the user's own Lightning callbacks."""

from collections.abc import Mapping
from typing import Any

import pytorch_lightning as pl
import torch
from torch import nn

from mbtrain.compatibility import name_of
from mbtrain.config.build import build
from mbtrain.data.sources import Source
from mbtrain.plan.duration import Duration
from mbtrain.plan.proportional import NoiseScale
from mbtrain.plan.refused import Refused
from mbtrain.plan.run import RunPlan
from mbtrain.probes.contract import Scheduled, needs
from mbtrain.probes.schedule_noise import ScheduleNoise


def probes_of(
    config: Mapping[str, Any],
    plan: RunPlan,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    train: Source,
    group_size: int | None,
) -> tuple[Scheduled, ...]:
    """The probes of the config, each given what its signature asks for, and when each is due; the batch schedule's."""
    trained = {name: one for name, one in model.named_parameters() if one.requires_grad}
    offered: dict[str, Any] = {"model": model, "optimizer": optimizer, "trained": trained, "plan": plan}
    offered |= {"train": train, "group_size": group_size}

    def scheduled(name: str, node: Mapping[str, Any]) -> Scheduled:
        key = f"probe.{name}"
        probe = build(node, key=key, trust=config["trust"], offered=offered, leave=("every", "at"))
        if config["trainer"]["activation_checkpointing"] and needs(probe, "layers"):
            raise Refused(
                f"probe={name}: watches the layers, which trainer.activation_checkpointing=true runs twice: "
                "leave one of them out"
            )
        every, at = node.get("every"), node.get("at") or ()
        times = [] if every is None else [plan.cadence(Duration.parse(every))]
        return Scheduled(probe, name, [*times, plan.points([Duration.parse(one) for one in at])])

    own = []
    if isinstance(plan.schedule, NoiseScale):
        probe = ScheduleNoise(plan.schedule, trained=trained, optimizer=optimizer)
        own.append(Scheduled(probe, "batch_schedule", [plan.cadence(plan.schedule.every)]))
    return (*(scheduled(name, node) for name, node in config["probe"].items()), *own)


def callbacks_of(config: Mapping[str, Any]) -> tuple[pl.Callback, ...]:
    """The user's own Lightning callbacks, from trainer.extra.callbacks."""
    built = []
    for index, node in enumerate(config["trainer"]["extra"].get("callbacks") or []):
        key = f"trainer.extra.callbacks[{index}]"
        callback = build(node, key=key, trust=config["trust"])
        if not isinstance(callback, pl.Callback):
            raise Refused(f"{key}: {name_of(node)} is no Lightning callback")
        built.append(callback)
    return tuple(built)
