"""Checks a composed config without torch: our keys, then the rules between them; every fault is one line."""

import re
from collections.abc import Iterable, Mapping
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError

from mbtrain.config.nearest import nearest
from mbtrain.config.schema import Config
from mbtrain.config.trust import refuse_untrusted, targets
from mbtrain.plan.batch import micro_size_of, usable_micro_size
from mbtrain.plan.duration import Duration
from mbtrain.plan.refused import Refused

# Trainer arguments that are ours, with the key to use instead; the rest of Lightning's may be given in trainer.extra.
OURS = {
    "accumulate_grad_batches": "batch.accumulate or batch.micro_size",
    "gradient_clip_val": "optimizer.clip_norm",
    "gradient_clip_algorithm": "optimizer.clip_norm",
    "max_epochs": "duration",
    "max_steps": "duration",
    "min_epochs": "duration",
    "min_steps": "duration",
    "max_time": "duration",
    "limit_train_batches": "duration",
    "overfit_batches": "duration",
    "fast_dev_run": "duration=1it",
    "val_check_interval": "validate.every",
    "check_val_every_n_epoch": "validate.every",
    "limit_val_batches": "dataset.val_fraction",
    "num_sanity_val_steps": "validate.every",
    "reload_dataloaders_every_n_epochs": "dataset",
    "use_distributed_sampler": "sampler",
    "enable_progress_bar": "trainer.progress",
    "enable_checkpointing": "checkpoint.every",
    "logger": "tracker",
    "log_every_n_steps": "tracker (every iteration is logged)",
    "accelerator": "trainer.accelerator",
    "devices": "trainer.devices",
    "precision": "trainer.precision",
    "deterministic": "trainer.deterministic",
    "default_root_dir": "run_dir",
    "inference_mode": "validate",
    "barebones": "trainer.loop",
}


class Faults(Refused):
    """All that is wrong with a config, a line each."""

    def __init__(self, lines: Iterable[str]) -> None:
        self.lines = list(lines)
        super().__init__("\n".join(self.lines))


def check(config: Mapping[str, Any]) -> None:
    """Raise Faults unless every key and value of ours is right and they go together."""
    try:
        Config.model_validate(dict(config))
    except ValidationError as error:
        raise Faults(_line(config, fault) for fault in error.errors()) from None
    faults = list(_conflicts(config))
    if faults:
        raise Faults(faults)


def _conflicts(config: Mapping[str, Any]) -> Iterable[str]:
    batch, group_size = config["batch"], config["batch_norm"]["group_size"]
    try:
        micro_size = micro_size_known(batch)
        has_groups = config["batch_norm"]["kind"] == "batch" and group_size is not None
        if has_groups and micro_size is not None and (batch["size"] == "all" or group_size < batch["size"]):
            usable_micro_size(micro_size, group_size)
    except Refused as error:
        yield str(error)
    if Duration.parse(config["duration"]).unit == "%":
        yield f"duration={config['duration']}: the run's length cannot be a part of itself, use ep, it or sp"
    validate = config["validate"]
    if validate["patience"] is not None and validate["best"] is None:
        yield f"validate.patience={validate['patience']}: needs validate.best=KEY to say what should get better"
    for key in sorted(set(config["trainer"]["extra"]) & set(OURS)):
        yield f"trainer.extra.{key}: is set by mbtrain, use {OURS[key]} instead"
    for group in ("probe", "tracker"):
        for name, node in config[group].items():
            if not isinstance(node, Mapping) or not isinstance(node.get("_target_"), str):
                yield f"{group}.{name}: names no _target_; {group}=NAME chooses one, {group}=[A,B] several"
    for name, node in config["probe"].items():
        every = node.get("every") if isinstance(node, Mapping) else None
        try:
            Duration.parse(every)
        except Refused as error:
            yield f"probe.{name}.every={error}"
    if config["trainer"]["precision"] == "16-mixed" and config["trainer"]["accelerator"] == "cpu":
        yield "trainer.precision=16-mixed: needs a GPU, on a CPU use trainer.precision=bf16-mixed"


def micro_size_known(batch: Mapping[str, Any]) -> int | None:
    """The micro size as far as it is known before the data is: null where there is none or the size is `all`."""
    size, micro_size, accumulate = batch["size"], batch["micro_size"], batch["accumulate"]
    if accumulate is None or size == "all":
        if accumulate is not None and micro_size is not None:
            raise Refused(
                f"batch.accumulate={accumulate} and batch.micro_size={micro_size}: with batch.size=all give one of them"
            )
        return micro_size
    derived = micro_size_of(size=size, accumulate=accumulate)
    if micro_size is not None and micro_size != derived:
        raise Refused(
            f"batch.accumulate={accumulate} means batch.micro_size={derived}, but batch.micro_size={micro_size} "
            "is given too: leave one of them out"
        )
    return derived


def _line(config: Mapping[str, Any], fault: Any) -> str:
    path = [str(part) for part in fault["loc"]]
    key, value = ".".join(path), _shown(fault["input"])
    if fault["type"] == "extra_forbidden":
        return f"{key}={value}: no such key{nearest(path[-1], _known(path[:-1]), prefix=path[:-1])}"
    if fault["type"] == "missing":
        return f"{key}: is missing, {_words(path)}"
    message = re.sub(r"^Value error, ", "", fault["msg"])
    if fault["type"] == "value_error":
        return f"{key}={value}: must be {message}"
    return f"{key}={value}: {message[0].lower()}{message[1:]}"


def _words(path: list[str]) -> str:
    return "give it in the config or on the command line" if path[-1] != "_target_" else "name a class"


def _shown(value: Any) -> str:
    text = "null" if value is None else yaml.safe_dump(value, default_flow_style=True, width=1000).strip()
    text = text.removesuffix("\n...").strip()
    return text if len(text) <= 60 else text[:57] + "..."


def _known(path: list[str]) -> list[str]:
    """The keys of ours below a path."""
    model: Any = Config
    for part in path:
        field = _fields(model).get(part)
        model = field.annotation if field is not None else None
        if not (isinstance(model, type) and issubclass(model, BaseModel)):
            return []
    return list(_fields(model))


def _fields(model: Any) -> dict[str, Any]:
    return {field.alias or name: field for name, field in model.model_fields.items()}


def all_keys() -> dict[str, Any]:
    """Every key of ours by its full name, with its field: what the reference of keys is made of."""
    keys: dict[str, Any] = {}

    def walk(model: Any, prefix: str) -> None:
        for name, field in _fields(model).items():
            if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
                walk(field.annotation, f"{prefix}{name}.")
            else:
                keys[prefix + name] = field

    walk(Config, "")
    return keys
