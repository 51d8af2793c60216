"""The runs of a study as the analysis needs them: read from their logs, kept small in `runs.json` beside the page."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import orjson

from mbtrain.log.files import replace
from mbtrain.log.reader import read_rows

FILE = "runs.json"


@dataclass(frozen=True)
class Trajectory:
    """A run's validation losses with the updates and samples before each, its end being the last; its other columns.

    Empty where the run did not finish: it counts as diverged.

    >>> Trajectory((10, 20), (100, 200), (1.0, 0.5)).at_samples(150)
    0.75
    """

    updates: Sequence[int] = ()
    samples: Sequence[int] = ()
    losses: Sequence[float] = ()
    columns: Mapping[str, float] = field(default_factory=dict)

    @property
    def final(self) -> float:
        """The loss at the end."""
        return self.losses[-1] if self.losses else np.nan

    def at_samples(self, samples: int) -> float:
        """The loss after so many samples, on a straight line between two validations; nan outside them."""
        return self._at(samples, self.samples)

    def at_updates(self, updates: int) -> float:
        """The loss after so many updates, likewise."""
        return self._at(updates, self.updates)

    def _at(self, place: int, axis: Sequence[int]) -> float:
        return float(np.interp(place, axis, self.losses, left=np.nan, right=np.nan)) if axis else np.nan


def trajectory(run_dir: Path, columns: Sequence[str] = ()) -> Trajectory:
    """What a run's log and result say."""
    file = run_dir / "result.json"
    if not file.is_file():
        return Trajectory()
    result = orjson.loads(file.read_bytes())
    rows = [row for row in read_rows(run_dir / "epochs.jsonl") if row.get("val/loss") is not None]
    points = {row["iteration"]: (row["samples_seen"], row["val/loss"]) for row in rows}
    points[result["iterations"]] = (result["samples_seen"], _number(result.get("val/loss")))
    updates = sorted(points)
    samples, losses = zip(*(points[one] for one in updates), strict=True)
    return Trajectory(updates, samples, losses, _columns(run_dir, result, columns))


def trajectories(study_dir: Path, study: Mapping[str, Any]) -> dict[str, Trajectory]:
    """The runs of a study by folder; those whose logs are not there (a study that was copied) as they were kept."""
    file = study_dir / FILE
    kept = orjson.loads(file.read_bytes()) if file.is_file() else {}
    found: dict[str, Trajectory] = {}
    for folder in dict.fromkeys(folders(study["cases"])):
        if (study_dir / folder).is_dir() or folder not in kept:
            found[folder] = trajectory(study_dir / folder, study.get("columns", ()))
        else:
            found[folder] = _unpacked(kept[folder])
    content = {folder: _packed(one) for folder, one in found.items()}
    replace(file, orjson.dumps(content))
    return found


def folders(node: Any) -> list[str]:
    """Every run that a part of study.json names.

    >>> folders({"digits": {"runs": {"step": ["run/a"]}, "also": {"samples": {"step": ["run/b"]}}}})
    ['run/a', 'run/b']
    """
    if isinstance(node, str):
        return [node] if node.startswith("run/") else []
    parts = node.values() if isinstance(node, Mapping) else node if isinstance(node, list | tuple) else ()
    return [one for part in parts for one in folders(part)]


def _packed(one: Trajectory) -> dict[str, Any]:
    return {
        "updates": list(one.updates),
        "samples": list(one.samples),
        "losses": [_rounded(loss) for loss in one.losses],
        "columns": {name: _rounded(value) for name, value in one.columns.items()},
    }


def _unpacked(node: Mapping[str, Any]) -> Trajectory:
    losses = [_number(loss) for loss in node["losses"]]
    columns = {name: _number(value) for name, value in node["columns"].items()}
    return Trajectory(node["updates"], node["samples"], losses, columns)


def _rounded(value: float) -> float | None:
    return float(f"{value:.6g}") if np.isfinite(value) else None


def _number(value: float | None) -> float:
    return np.nan if value is None else value


def _columns(run_dir: Path, result: Mapping[str, Any], names: Sequence[str]) -> dict[str, float]:
    """Each column from the run's result, else the last row of its epochs, else of its iterations, that has it."""
    found = {name: _number(result.get(name)) for name in names if name in result}
    for log in ("epochs.jsonl", "iterations.jsonl"):
        missing = [name for name in names if name not in found]
        for row in read_rows(run_dir / log) if missing else ():
            found |= {name: row[name] for name in missing if row.get(name) is not None}
    return {name: found.get(name, np.nan) for name in names}
