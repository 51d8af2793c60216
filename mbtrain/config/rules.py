"""The rules between our keys, as far as they can be known without data, model or torch."""

from collections.abc import Iterator, Mapping
from typing import Any

from mbtrain.config.nearest import nearest
from mbtrain.config.scaling import scaling_conflicts
from mbtrain.config.schedules import is_constant
from mbtrain.config.shown import shown
from mbtrain.config.signature import lightnings
from mbtrain.plan.batch import micro_size_of, usable_micro_size
from mbtrain.plan.duration import Duration
from mbtrain.plan.refused import Refused
from mbtrain.plan.words import typed

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


def conflicts(config: Mapping[str, Any]) -> Iterator[str]:
    """A line for each pair of keys of a valid config that do not go together."""
    yield from _of_sizes(config)
    yield from _of_norm(config["batch_norm"], config["scaling"])
    yield from _of_extra(config["trainer"]["extra"])
    yield from _of_parts(config)
    if config["batch"]["max_tokens"] is not None:
        yield from _of_tokens(config)
    if not is_constant(config):
        yield from _of_batch_schedule(config)
    yield from scaling_conflicts(config)
    if Duration.parse(config["duration"]).unit == "%":
        yield f"duration={config['duration']}: the run's length cannot be a part of itself, use ep, it or sp"
    validate = config["validate"]
    if validate["patience"] is not None and validate["best"] is None:
        yield f"validate.patience={validate['patience']}: needs validate.best=KEY to say what should get better"
    if config["trainer"]["precision"] == "16-mixed" and config["trainer"]["accelerator"] == "cpu":
        yield "trainer.precision=16-mixed: needs a GPU, on a CPU use trainer.precision=bf16-mixed"


def _of_sizes(config: Mapping[str, Any]) -> Iterator[str]:
    batch, group_size = config["batch"], config["batch_norm"]["group_size"]
    try:
        micro_size = micro_size_known(batch)
        if micro_size is None or group_size is None or config["batch_norm"]["kind"] not in ("batch", "renorm"):
            return
        if batch["size"] == "all" or micro_size < batch["size"] or not is_constant(config):
            usable_micro_size(micro_size, group_size)
    except Refused as error:
        yield str(error)


def _of_tokens(config: Mapping[str, Any]) -> Iterator[str]:
    most, batch = config["batch"]["max_tokens"], config["batch"]
    others = {
        "batch.drop_last=true": batch["drop_last"],
        f"batch.accumulate={batch['accumulate']}": batch["accumulate"] is not None,
        "batch_schedule": not is_constant(config),
        "scaling": config["scaling"]["reference_size"] is not None,
        "trainer.loop=stock": config["trainer"]["loop"] == "stock",
    }
    for other, is_given in others.items():
        if is_given:
            yield f"batch.max_tokens={most}: mini-batches hold now more, now fewer samples: leave out {other}"


def _of_batch_schedule(config: Mapping[str, Any]) -> Iterator[str]:
    name, batch = typed(config["batch_schedule"]["_target_"]), config["batch"]
    if batch["size"] == "all":
        yield f"batch.size=all: the whole set cannot grow, with batch_schedule={name} give a number"
    if batch["accumulate"] is not None:
        yield (
            f"batch.accumulate={batch['accumulate']}: the size moves under batch_schedule={name}, "
            "give batch.micro_size=N instead"
        )
    if config["trainer"]["loop"] == "stock":
        yield (
            f"trainer.loop=stock: takes each epoch for as long as the first, not so under batch_schedule={name}: "
            "use trainer.loop=lean"
        )


def _of_norm(norm: Mapping[str, Any], scaling: Mapping[str, Any]) -> Iterator[str]:
    half_life, momentum = norm["half_life"], norm["momentum"]
    if half_life is not None and scaling["batch_norm_momentum"]:
        yield f"batch_norm.half_life={half_life} does what scaling.batch_norm_momentum=true does: leave one of them out"
    if half_life is not None and momentum is not None:
        yield (
            f"batch_norm.half_life={half_life} and batch_norm.momentum={momentum}: each says how long running "
            "statistics remember, leave one of them out"
        )


def _of_extra(extra: Mapping[str, Any]) -> Iterator[str]:
    takes = lightnings() if extra else None
    for key in sorted(extra):
        if key in OURS:
            yield f"trainer.extra.{key}: is set by mbtrain, use {OURS[key]} instead"
        elif takes is not None and key not in takes:
            hint = nearest(key, takes, prefix=["trainer", "extra"])
            yield f"trainer.extra.{key}={shown(extra[key])}: Lightning's Trainer has no such argument{hint}"
    callbacks = extra.get("callbacks") or []
    if not isinstance(callbacks, list) or not all(isinstance(one, Mapping) and "_target_" in one for one in callbacks):
        yield f"trainer.extra.callbacks={shown(callbacks)}: must be a list of {{_target_: my_data.MyCallback}}"


def _of_parts(config: Mapping[str, Any]) -> Iterator[str]:
    """Of probes and trackers, which are mappings by name."""
    for group in ("probe", "tracker"):
        for name, node in config[group].items():
            if not isinstance(node, Mapping) or not isinstance(node.get("_target_"), str):
                yield f"{group}.{name}: names no _target_; {group}=NAME chooses one, {group}=[A,B] several"
    for name, node in config["probe"].items():
        if isinstance(node, Mapping):
            yield from _of_times(name, node)


def _of_times(name: str, node: Mapping[str, Any]) -> Iterator[str]:
    """Of when a probe is due."""
    every, at = node.get("every"), node.get("at") or []
    if not isinstance(at, list):
        yield f"probe.{name}.at={shown(at)}: must be a list of lengths, such as [50%,100%]"
    elif every is not None or not at:
        yield from _unread(f"probe.{name}.every", every)
    for one in at if isinstance(at, list) else ():
        yield from _unread(f"probe.{name}.at", one)


def _unread(key: str, length: Any) -> Iterator[str]:
    try:
        Duration.parse(length)
    except Refused as error:
        yield f"{key}={error}"


def micro_size_known(batch: Mapping[str, Any]) -> int | None:
    """The micro size as far as it is known before the data is: null where there is none or the size is `all`."""
    size, micro_size, accumulate = batch["size"], batch["micro_size"], batch["accumulate"]
    if isinstance(micro_size, str):
        if accumulate is not None:
            raise Refused(
                f"batch.accumulate={accumulate} and batch.micro_size={micro_size}: the one says what the other is to "
                "find: leave one of them out"
            )
        return None
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
