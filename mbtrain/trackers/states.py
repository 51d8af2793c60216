"""What each tracker says it has of a run: `RUN/trackers/NAME.json`, and the same in `result.json`."""

from pathlib import Path
from typing import Any

import orjson

from mbtrain.log.files import replace


def write_state(run_dir: Path, name: str, state: dict[str, Any]) -> None:
    """Replace a tracker's state in one step; the folder may have been taken away."""
    path = run_dir / "trackers" / f"{name}.json"
    path.parent.mkdir(exist_ok=True)
    replace(path, orjson.dumps(state))


def read_state(run_dir: Path, name: str) -> dict[str, Any] | None:
    """A tracker's state, None where it never began or its file is not readable."""
    try:
        return orjson.loads((run_dir / "trackers" / f"{name}.json").read_bytes())
    except (OSError, orjson.JSONDecodeError):
        return None


def keep_in_result(run_dir: Path) -> None:
    """Put the states of all trackers into a finished run's `result.json`, where whoever reads it looks."""
    file = run_dir / "result.json"
    names = sorted(path.stem for path in (run_dir / "trackers").glob("*.json"))
    states = {name: state for name in names if (state := read_state(run_dir, name)) is not None}
    if states and file.is_file():
        result = orjson.loads(file.read_bytes()) | {"trackers": states}
        replace(file, orjson.dumps(result, option=orjson.OPT_INDENT_2))
