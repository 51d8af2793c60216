"""Checks a composed config without torch: our keys, then the rules between them; every fault is one line."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import yaml

from mbtrain.config.nearest import nearest
from mbtrain.config.schema import BUILT, KEYS, SECTIONS
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
    faults = [*_faults_of_keys(config), *_faults_of_targets(config)]
    faults = faults or list(_conflicts(config))
    if faults:
        raise Faults(faults)


def _faults_of_keys(config: Mapping[str, Any]) -> Iterator[str]:
    yield from _faults_in(config, "")
    for section in SECTIONS:
        node = config.get(section, {})
        if isinstance(node, Mapping):
            yield from _faults_in(node, f"{section}.")
        else:
            takes = ", ".join(key.split(".")[1] for key in KEYS if key.startswith(f"{section}."))
            yield f"{section}={_shown(node)}: must be a mapping of {takes}"
    for key, (_, _, is_optional) in KEYS.items():
        section, _, name = key.rpartition(".")
        node = config.get(section, {}) if section else config
        if not is_optional and isinstance(node, Mapping) and name not in node:
            yield f"{key}: is missing, give it in the config or on the command line"


def _faults_in(node: Mapping[str, Any], prefix: str) -> Iterator[str]:
    """Of the keys in one section, or above all sections."""
    known = [key for key in KEYS if key.startswith(prefix) and "." not in key[len(prefix) :]]
    for name, value in node.items():
        key = f"{prefix}{name}"
        if key in KEYS:
            if not KEYS[key].kind.takes(value):
                yield f"{key}={_shown(value)}: must be {KEYS[key].kind.allowed}"
        elif prefix.rstrip(".") not in BUILT and (prefix or name not in SECTIONS):
            yield f"{key}={_shown(value)}: no such key{nearest(key, [*known, *([] if prefix else SECTIONS)])}"


def _faults_of_targets(config: Mapping[str, Any]) -> Iterator[str]:
    """Of the names of classes, before anything is imported."""
    trust = config.get("trust")
    for key, target in targets(config):
        try:
            refuse_untrusted(target, key=key, trust=trust if isinstance(trust, list) else ())
        except Refused as error:
            yield str(error)


def _conflicts(config: Mapping[str, Any]) -> Iterable[str]:
    batch, group_size = config["batch"], config["batch_norm"]["group_size"]
    try:
        micro_size = micro_size_known(batch)
        is_grouped = config["batch_norm"]["kind"] == "batch" and (batch["size"] == "all" or batch["size"] != group_size)
        if is_grouped and group_size is not None and micro_size is not None:
            usable_micro_size(micro_size, min(group_size, batch["size"] if batch["size"] != "all" else group_size))
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


def _shown(value: Any) -> str:
    text = "null" if value is None else yaml.safe_dump(value, default_flow_style=True, width=1000).strip()
    text = text.removesuffix("\n...").strip()
    return text if len(text) <= 60 else text[:57] + "..."
