"""Writes docs/keys.md, the reference of keys, from the schema and the composed default config."""

from collections.abc import Iterator
from itertools import takewhile
from pathlib import Path
from typing import Any

from mbtrain.config.compose import composed
from mbtrain.config.driver import conf_dir
from mbtrain.config.schema import KEYS
from mbtrain.config.shown import shown

FILE = Path(__file__).parents[1] / "docs" / "keys.md"
HEAD = """# Keys

Written by `make keys` from `mbtrain/config/schema.py` and the default config: do not edit.

`KEY=VALUE` on the command line sets one; `GROUP=CHOICE` takes another file of `conf/GROUP/`, whose own options stand in
it with their defaults. `+KEY=VALUE` adds an option that the class which a section builds takes and its file does not
list. `null` is no value. `mbtrain --cfg job --resolve` shows the whole config as it would run.

A length is `5ep` (epochs), `200it` (iterations), `6400sp` (samples) or `50%` (of the run).
"""
# Defaults that are made anew for each run are shown as the file writes them.
AS_WRITTEN = {"run_dir": "runs/DATE_TIME_NAME", "sweep_dir": "sweeps/NAME", "name": "DATASET_MODEL"}


def page() -> str:
    """The whole page."""
    return HEAD + "\n".join(_lines(composed([])))


def _lines(config: dict[str, Any]) -> Iterator[str]:
    section = None
    for key, (kind, meaning, _) in KEYS.items():
        here = key.split(".")[0] if "." in key or key in ("probe", "tracker") else ""
        if here != section:
            section = here
            yield f"\n## {section or 'The run'}\n"
            yield from _choices(section)
            yield "| key | meaning | allowed | default |"
            yield "|---|---|---|---|"
        default = AS_WRITTEN.get(key) or _default(config, key)
        yield f"| `{key}` | {_cell(meaning)} | {_cell(kind.allowed)} | `{_cell(default)}` |"
    yield ""


def _choices(group: str) -> Iterator[str]:
    """A line for each choice of a group: what its file says of it."""
    files = sorted((conf_dir() / group).glob("*.yaml")) if group else []
    for file in files:
        lines = [one for one in file.read_text().splitlines() if not one.startswith("# @package")]
        said = " ".join(one.removeprefix("#").strip() for one in takewhile(lambda one: one.startswith("#"), lines))
        yield f"- `{group}={file.stem}`: {said}"
    if files:
        yield ""


def _default(config: dict[str, Any], key: str) -> str:
    value: Any = config
    *sections, name = key.split(".")
    for section in sections:
        value = value[section]
    if name not in value:
        return "in the file of its choice"
    value = value[name]
    if key in ("probe", "tracker"):
        return ", ".join(value) or "none"
    return shown(value)


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


if __name__ == "__main__":
    FILE.parent.mkdir(exist_ok=True)
    FILE.write_text(page())
