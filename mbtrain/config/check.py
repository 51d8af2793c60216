"""Checks a composed config without torch: our keys, then the rules between them; every fault is one line."""

from collections.abc import Iterable, Iterator, Mapping
from functools import reduce
from typing import Any

from mbtrain.config.nearest import nearest
from mbtrain.config.rules import conflicts
from mbtrain.config.schedules import faults_of_schedules
from mbtrain.config.schema import BUILT, KEYS, SECTIONS
from mbtrain.config.shown import shown
from mbtrain.config.signature import arguments_of, kind_of
from mbtrain.config.trust import refuse_untrusted, targets
from mbtrain.plan.refused import Refused


class Faults(Refused):
    """All that is wrong with a config, a line each."""

    def __init__(self, lines: Iterable[str]) -> None:
        self.lines = list(lines)
        super().__init__("\n".join(self.lines))


def check(config: Mapping[str, Any]) -> None:
    """Raise Faults unless every key and value of ours is right and they go together."""
    faults = [*_faults_of_keys(config), *_faults_of_targets(config)]
    faults = faults or [*_faults_of_options(config), *conflicts(config)]
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
            yield f"{section}={shown(node)}: must be a mapping of {takes}"
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
                yield f"{key}={shown(value)}: must be {KEYS[key].kind.allowed}"
        elif prefix.rstrip(".") not in BUILT and (prefix or name not in SECTIONS):
            yield f"{key}={shown(value)}: no such key{nearest(key, [*known, *([] if prefix else SECTIONS)])}"


def _faults_of_targets(config: Mapping[str, Any]) -> Iterator[str]:
    """Of the names of classes, before anything is imported."""
    trust = config.get("trust")
    for key, target in targets(config):
        try:
            refuse_untrusted(target, key=key, trust=trust if isinstance(trust, list) else ())
        except Refused as error:
            yield str(error)


def _faults_of_options(config: Mapping[str, Any]) -> Iterator[str]:
    """Of the options of our own classes, whose sources say what they take."""
    for key, target in targets(config):
        takes = arguments_of(str(target))
        if takes is None or "[" in key:
            continue
        node = reduce(lambda inner, name: inner[name], key.split("."), config)
        for name, value in node.items():
            # Optional keys are options of some classes of a section, the others are the section's own.
            is_ours = f"{key}.{name}" in KEYS and not KEYS[f"{key}.{name}"].is_optional
            when = ("every", "at") if key.startswith("probe.") else ()
            if name not in (*takes, "_target_", *when) and not is_ours:
                hint = nearest(name, takes, prefix=[key])
                what = f"it takes {', '.join(takes)}" if takes else "it takes none"
                yield f"{key}.{name}={shown(value)}: {target} has no such option{hint}; {what}"
            # Schedules are made below, and say themselves what is wrong.
            elif is_ours or key.endswith("_schedule"):
                continue
            elif (kind := kind_of(str(target), name)) is not None and not kind.takes(value):
                yield f"{key}.{name}={shown(value)}: must be {kind.allowed}"
    try:
        yield from faults_of_schedules(config)
    except Refused as error:
        yield str(error)
