"""The score by which runs are compared, its direction, and how its numbers are written."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from mbtrain.analysis.runs import Run
from mbtrain.plan.refused import Refused

HIGH_IS_GOOD = ("accuracy", "top5", "f1", "auc", "precision", "recall", "r2", "samples_per_s")
DEFAULT = "val/loss"


@dataclass(frozen=True)
class Score:
    """A key of result.json, such as `val/loss`."""

    key: str

    @property
    def is_high_good(self) -> bool:
        """Whether more is better: so for accuracies, not for losses and errors."""
        return self.key.rsplit("/", 1)[-1].endswith(HIGH_IS_GOOD)

    @property
    def test(self) -> "Score":
        """The same score of the test data.

        >>> Score("val/loss").test.key
        'test/loss'
        """
        return Score("test/" + self.key.split("/", 1)[-1])

    @property
    def spoken(self) -> str:
        """Its name in a sentence."""
        return self.key.replace("/", " ").replace("val ", "validation ")

    def badness(self, value: float) -> float:
        """Sorts the best first."""
        return -value if self.is_high_good else value

    def of(self, run: Run) -> float:
        """What the run came to; nan where it diverged (null in the file, or stopped by it) or has no such score."""
        value = None if run.has_diverged else run.result.get(self.key)
        return float(value) if isinstance(value, int | float) and math.isfinite(value) else math.nan


def chosen(key: str | None, runs: Sequence[Run]) -> Score:
    """The score asked for, or `val/loss`, or the first that the runs have; Refused for one that no run has."""
    there = list(
        dict.fromkeys(name for run in runs for name in run.result if name.startswith(("val/", "test/", "best/")))
    )
    if key is None:
        return Score(next((one for one in [DEFAULT, *there] if one in there), DEFAULT))
    if there and key not in there:
        raise Refused(f"--by {key}: no run has this score, the runs have {', '.join(there)}")
    return Score(key)


def written(value: float) -> str:
    """Four digits of a number.

    >>> written(0.0123456), written(1234567.0), written(float("nan"))
    ('0.01235', '1,234,567', 'not finite')
    """
    if not math.isfinite(value):
        return "not finite"
    if value == int(value) or abs(value) >= 10_000:
        return f"{value:,.0f}"
    return f"{value:.4g}"
