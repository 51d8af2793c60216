"""Curves over training, of a run and of a setting's seeds."""

from pathlib import Path

import numpy as np
import pytest

from mbtrain.analysis.curves import mean_curve
from mbtrain.analysis.thinned import ThinnedLog
from tests.analysis.folders import write_rows


def log_of(path: Path, xs: list[float], ys: list[float]) -> ThinnedLog:
    rows = [{"iteration": i + 1, "samples_seen": x, "a": y} for i, (x, y) in enumerate(zip(xs, ys, strict=True))]
    write_rows(path, rows)
    log = ThinnedLog(path)
    log.read()
    return log


def test_a_band_goes_from_the_lowest_seed_to_the_highest(tmp_path: Path) -> None:
    logs = [log_of(tmp_path / str(i), [10, 20, 30], [i, 2 * i, 3 * i]) for i in (1, 2, 6)]
    curve = mean_curve("name", "a", "samples_seen", logs)
    assert curve is not None and curve.low is not None and curve.high is not None
    assert curve.x.tolist() == [10, 20, 30] and curve.y.tolist() == [3, 6, 9]
    assert curve.low.tolist() == [1, 2, 3] and curve.high.tolist() == [6, 12, 18]


def test_seeds_of_different_length_are_compared_where_all_have_values(tmp_path: Path) -> None:
    logs = [log_of(tmp_path / "a", [0, 10, 20], [0, 10, 20]), log_of(tmp_path / "b", [5, 15], [5, 15])]
    curve = mean_curve("name", "a", "samples_seen", logs)
    assert curve is not None and (curve.x[0], curve.x[-1]) == (5, 15)
    assert curve.y == pytest.approx(curve.x) and np.array_equal(curve.y, curve.low)


def test_a_column_that_is_nowhere_has_no_curve(tmp_path: Path) -> None:
    assert mean_curve("name", "b", "samples_seen", [log_of(tmp_path / "a", [1], [1])]) is None
