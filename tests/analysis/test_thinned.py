"""A thinned log against numpy on the whole of it."""

import json
from pathlib import Path

import numpy as np
import pytest

from mbtrain.analysis.thinned import CAPACITY, ThinnedLog
from tests.analysis.folders import write_rows


def log_of(path: Path, losses: np.ndarray) -> ThinnedLog:
    write_rows(path, [{"iteration": i + 1, "train/loss": loss} for i, loss in enumerate(losses.tolist())])
    log = ThinnedLog(path)
    log.read()
    return log


def test_a_short_log_is_kept_whole(tmp_path: Path) -> None:
    losses = np.random.default_rng(0).random(CAPACITY)
    x, mean, low, high = log_of(tmp_path / "log", losses).points("train/loss", "iteration")
    assert (x == np.arange(1, CAPACITY + 1)).all()
    assert (mean == losses).all() and (low == losses).all() and (high == losses).all()


def test_stretches_have_the_lowest_highest_and_mean_value(tmp_path: Path) -> None:
    losses = np.random.default_rng(0).random(10_000)
    x, mean, low, high = log_of(tmp_path / "log", losses).points("train/loss", "iteration")
    width = 16  # the least power of two that makes no more than 1024 stretches of 10,000
    parts = [losses[start : start + width] for start in range(0, len(losses), width)]
    assert len(x) == len(parts) <= CAPACITY
    assert (low == [part.min() for part in parts]).all() and (high == [part.max() for part in parts]).all()
    assert mean == pytest.approx([part.mean() for part in parts], rel=1e-12)


def test_reading_as_it_grows_gives_what_reading_at_once_gives(tmp_path: Path) -> None:
    losses = np.random.default_rng(0).random(5000)
    growing = ThinnedLog(tmp_path / "growing")
    for end in (1, 700, 1024, 1025, 4000, 5000):
        write_rows(tmp_path / "growing", [{"iteration": i + 1, "train/loss": losses[i]} for i in range(end)])
        growing.read()
    whole = log_of(tmp_path / "whole", losses)
    for a, b in zip(growing.points("train/loss", "iteration"), whole.points("train/loss", "iteration"), strict=True):
        assert a == pytest.approx(b, rel=1e-12)


def test_a_log_that_was_cut_back_is_read_anew(tmp_path: Path) -> None:
    log = log_of(tmp_path / "log", np.ones(100))
    write_rows(tmp_path / "log", [{"iteration": i + 1, "train/loss": 5.0} for i in range(150)])
    log.read()
    assert log.num_rows == 150 and (log.points("train/loss", "iteration")[1] == 5).all()


def test_damaged_lines_are_counted_and_left_out(tmp_path: Path) -> None:
    bad = ["{", "[1]", '{"iteration": "x"}', '{"iteration": -1}', '{"iteration": 1e300}', "\x00\x00", "null", ""]
    good = [json.dumps({"iteration": i, "train/loss": 1.0}) for i in (1, 2)]
    (tmp_path / "log").write_text("\n".join([good[0], *bad, good[1]]) + "\n")
    log = ThinnedLog(tmp_path / "log")
    log.read()
    assert (log.num_rows, log.num_damaged) == (2, len(bad))


def test_two_halves_that_are_rows_only_together_are_damage(tmp_path: Path) -> None:
    (tmp_path / "log").write_text('{"iteration": 1\n"train/loss": 1.0}\n')
    log = ThinnedLog(tmp_path / "log")
    log.read()
    assert (log.num_rows, log.num_damaged) == (0, 2)


def test_a_line_being_written_waits_for_its_end(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_text('{"iteration": 1, "a": 1}\n{"iteration": 2, ')
    log = ThinnedLog(path)
    log.read()
    assert (log.num_rows, log.num_damaged) == (1, 0)
    with path.open("a") as file:
        file.write('"a": 3}\n')
    log.read()
    assert (log.num_rows, log.num_damaged, log.last) == (2, 0, {"iteration": 2, "a": 3})


def test_null_is_a_value_that_is_not_finite(tmp_path: Path) -> None:
    write_rows(tmp_path / "log", [{"iteration": 1, "a": None}, {"iteration": 2, "a": 1.0}, {"iteration": 3, "b": 1.0}])
    log = ThinnedLog(tmp_path / "log")
    log.read()
    assert log.columns["a"].num_nonfinite == 1
    assert log.points("a", "iteration")[0].tolist() == [2]


def test_a_missing_file_has_no_rows(tmp_path: Path) -> None:
    log = ThinnedLog(tmp_path / "nothing")
    log.read()
    assert log.num_rows == 0 and len(log.points("train/loss", "iteration")[0]) == 0
