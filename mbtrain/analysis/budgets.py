"""Equal samples, equal updates, equal time: the three budgets of a study, read off one trajectory per run."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import orjson

from mbtrain.log.reader import read_rows

BUDGETS = ("samples", "updates", "time")


@dataclass(frozen=True)
class Trajectory:
    """A run's validation losses with the updates and samples before each, its end being the last.

    Empty where the run did not finish: it counts as diverged.

    >>> Trajectory((10, 20), (100, 200), (1.0, 0.5)).at_samples(150)
    0.75
    """

    updates: tuple[int, ...] = ()
    samples: tuple[int, ...] = ()
    losses: tuple[float, ...] = ()

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


def trajectory(run_dir: Path) -> Trajectory:
    """What a run's log and result say."""
    file = run_dir / "result.json"
    if not file.is_file():
        return Trajectory()
    result = orjson.loads(file.read_bytes())
    rows = [row for row in read_rows(run_dir / "epochs.jsonl") if row.get("val/loss") is not None]
    points = {row["iteration"]: (row["samples_seen"], row["val/loss"]) for row in rows}
    final = result.get("val/loss")
    points[result["iterations"]] = (result["samples_seen"], np.nan if final is None else final)
    updates = tuple(sorted(points))
    return Trajectory(updates, tuple(points[one][0] for one in updates), tuple(points[one][1] for one in updates))


def losses_by_budget(study_dir: Path, case: Mapping[str, Any]) -> dict[str, dict[str, list[float]]]:
    """By budget and arm, the validation loss of each run.

    Equal samples and equal updates are the most that every arm has; the end of each run is equal time.
    """
    runs = {arm: [trajectory(study_dir / one) for one in folders] for arm, folders in case["runs"].items()}
    finished = [one for ran in runs.values() for one in ran if one.losses]
    samples = min((one.samples[-1] for one in finished), default=0)
    updates = min((one.updates[-1] for one in finished), default=0)
    return {
        "samples": {arm: [one.at_samples(samples) for one in ran] for arm, ran in runs.items()},
        "updates": {arm: [one.at_updates(updates) for one in ran] for arm, ran in runs.items()},
        "time": {arm: [one.final for one in ran] for arm, ran in runs.items()},
    }
