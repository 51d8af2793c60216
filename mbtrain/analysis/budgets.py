"""Equal samples, equal updates, equal time: the three budgets of a study, read off one trajectory per run."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import orjson

from mbtrain.log.reader import read_rows

BUDGETS = ("samples", "updates", "time")


@dataclass(frozen=True)
class Trajectory:
    """A run's validation loss over the samples that it has seen, and at its end; nan where it did not finish."""

    samples: tuple[int, ...]
    losses: tuple[float, ...]
    final: float

    def at(self, samples: int) -> float:
        """The loss after so many samples, on a straight line between two validations; nan outside them.

        >>> Trajectory((100, 200), (1.0, 0.5), 0.4).at(150)
        0.75
        """
        return (
            float(np.interp(samples, self.samples, self.losses, left=np.nan, right=np.nan)) if self.samples else np.nan
        )


def trajectory(run_dir: Path) -> Trajectory:
    """What a run's log and result say; one that failed has nan everywhere, so that it counts as diverged."""
    file = run_dir / "result.json"
    if not file.is_file():
        return Trajectory((), (), np.nan)
    rows = [row for row in read_rows(run_dir / "epochs.jsonl") if row.get("val/loss") is not None]
    losses = tuple(row["val/loss"] for row in rows)
    final = orjson.loads(file.read_bytes()).get("val/loss")
    return Trajectory(tuple(row["samples_seen"] for row in rows), losses, np.nan if final is None else final)


def losses_by_budget(
    study_dir: Path, case: Mapping[str, Any], batch_sizes: Mapping[str, int]
) -> dict[str, dict[str, list[float]]]:
    """By budget and arm, the validation loss of each run: at equal samples, equal updates, the end of the time."""
    runs = {arm: [trajectory(study_dir / one) for one in folders] for arm, folders in case["runs"].items()}
    samples, updates = case["budgets"]["samples"], case["budgets"]["updates"]
    return {
        "samples": {arm: [one.at(samples) for one in ran] for arm, ran in runs.items()},
        "updates": {arm: [one.at(updates * batch_sizes[arm]) for one in ran] for arm, ran in runs.items()},
        "time": {arm: [one.final for one in ran] for arm, ran in runs.items()},
    }
