"""The schedules that a config names: of the learning rate, and of the batch size."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from mbtrain.config.build import build
from mbtrain.config.trust import is_within
from mbtrain.plan.batch_schedule import BatchSchedule, names_read
from mbtrain.plan.duration import Duration, Horizon
from mbtrain.plan.words import typed

CONSTANT = "mbtrain.plan.batch_schedule.Constant"


def lr_schedule_of(config: Mapping[str, Any]) -> Callable[[Horizon], Callable[[float], float]]:
    """What `lr_schedule` names."""
    return build(config["lr_schedule"], key="lr_schedule", trust=config["trust"])


def batch_schedule_of(config: Mapping[str, Any], *, size: int) -> BatchSchedule:
    """What `batch_schedule` names, given `size` samples for `batch.size`, and the learning rate's where it asks."""
    offered = {"size": size, "lr_schedule": lr_schedule_of(config)}
    return build(config["batch_schedule"], key="batch_schedule", trust=config["trust"], offered=offered)


def is_constant(config: Mapping[str, Any]) -> bool:
    """Whether the batch size never moves."""
    return config["batch_schedule"]["_target_"] == CONSTANT


def faults_of_schedules(config: Mapping[str, Any]) -> Iterator[str]:
    """A line for each fault of our own schedules that shows without data; raises Refused for one in their options."""
    ours = [is_within(str(config[key]["_target_"]), ("mbtrain",)) for key in ("lr_schedule", "batch_schedule")]
    if ours[0]:
        lr_schedule_of(config)
    size = config["batch"]["size"]
    if all(ours) and size != "all":
        yield from _faults_of(batch_schedule_of(config, size=size), config)


def _faults_of(schedule: Any, config: Mapping[str, Any]) -> Iterator[str]:
    name, reads = typed(config["batch_schedule"]["_target_"]), names_read(schedule)
    if Duration.parse(config["duration"]).unit == "it" and (reads or getattr(schedule, "needs_total", False)):
        why = "how many samples iterations hold is not known ahead" if reads else "it goes by the run's length"
        yield f"duration={config['duration']}: with batch_schedule={name} give it in ep or sp, {why}"
    if reads and config["batch"]["drop_last"]:
        yield f"batch.drop_last=true: which samples would be left out is not known ahead under batch_schedule={name}"
    validated = [one for one in reads if one.startswith("val/")]
    if validated and config["validate"]["every"] is None:
        yield f"validate.every=null: batch_schedule={name} reads {validated[0]}, give a length such as 1ep"
