"""The writer's thread: order, offsets, errors that come back."""

from pathlib import Path
from typing import Any

import pytest

from mbtrain.log.reader import read_rows
from mbtrain.log.writer import LogWriter


def row(number: int) -> dict[str, Any]:
    return {"iteration": number}


def test_rows_are_on_disk_after_a_flush_and_offsets_are_lengths(tmp_path: Path) -> None:
    writer = LogWriter(tmp_path, offsets={})
    writer.write("iteration", lambda: [row(1), row(2)])
    writer.write("epoch", lambda: [row(2)])
    offsets = writer.flush()
    assert read_rows(tmp_path / "iterations.jsonl") == [row(1), row(2)]
    assert offsets == {"iteration": (tmp_path / "iterations.jsonl").stat().st_size, "epoch": len(b'{"iteration":2}\n')}
    writer.close()


def test_log_is_cut_back_to_the_offsets(tmp_path: Path) -> None:
    first = LogWriter(tmp_path, offsets={})
    first.write("iteration", lambda: [row(1)])
    offsets = first.flush()
    first.write("iteration", lambda: [row(2), row(3)])
    first.close()
    again = LogWriter(tmp_path, offsets=offsets)
    again.write("iteration", lambda: [row(20)])
    again.close()
    assert read_rows(tmp_path / "iterations.jsonl") == [row(1), row(20)]


def test_observers_see_rows_that_are_written_already(tmp_path: Path) -> None:
    seen: list[Any] = []
    writer = LogWriter(
        tmp_path,
        offsets={},
        observers=(lambda kind, rows: seen.append((kind, rows, read_rows(tmp_path / "iterations.jsonl"))),),
    )
    writer.write("iteration", lambda: [row(1)])
    writer.close()
    assert seen == [("iteration", [row(1)], [row(1)])]


def test_error_in_the_thread_is_raised_at_the_next_call(tmp_path: Path) -> None:
    def fail() -> list[dict[str, Any]]:
        raise OSError(28, "No space left on device")

    writer = LogWriter(tmp_path, offsets={})
    writer.write("iteration", fail)
    with pytest.raises(OSError, match="No space left"):
        writer.flush()
    writer.close()


def test_number_that_is_not_finite_becomes_null(tmp_path: Path) -> None:
    writer = LogWriter(tmp_path, offsets={})
    writer.write("iteration", lambda: [{"iteration": 1, "train/loss": float("nan"), "lr": float("inf")}])
    writer.close()
    assert read_rows(tmp_path / "iterations.jsonl") == [{"iteration": 1, "train/loss": None, "lr": None}]
