"""The writer's thread: order, marks, errors that come back."""

import hashlib
import resource
import signal
from pathlib import Path
from typing import Any

import pytest

from mbtrain.log.reader import read_rows
from mbtrain.log.writer import LogWriter
from mbtrain.plan.refused import Refused


def row(number: int) -> dict[str, Any]:
    return {"iteration": number}


def kept(writer: LogWriter) -> dict[str, Any]:
    return writer.mark(lambda: {}).result()


def test_rows_are_on_disk_once_a_mark_is_kept_and_it_says_length_and_hash(tmp_path: Path) -> None:
    writer = LogWriter(tmp_path, start={})
    writer.write("iteration", lambda: [row(1), row(2)])
    writer.write("epoch", lambda: [row(2)])
    mark = kept(writer)
    assert read_rows(tmp_path / "iterations.jsonl") == [row(1), row(2)]
    for kind, name in (("iteration", "iterations.jsonl"), ("epoch", "epochs.jsonl")):
        content = (tmp_path / name).read_bytes()
        assert mark[kind] == {"length": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    writer.close()


def test_mark_sees_what_the_rows_before_it_left(tmp_path: Path) -> None:
    seen: list[int] = []
    writer = LogWriter(tmp_path, start={})
    writer.write("iteration", lambda: seen.append(1) or [row(1)])
    assert writer.mark(lambda: {"seen": list(seen)}).result()["seen"] == [1]
    writer.close()


def test_log_is_cut_back_to_the_mark(tmp_path: Path) -> None:
    first = LogWriter(tmp_path, start={})
    first.write("iteration", lambda: [row(1)])
    mark = kept(first)
    first.write("iteration", lambda: [row(2), row(3)])
    first.close()
    again = LogWriter(tmp_path, start=mark)
    again.write("iteration", lambda: [row(20)])
    assert kept(again) != mark
    again.close()
    assert read_rows(tmp_path / "iterations.jsonl") == [row(1), row(20)]


@pytest.mark.parametrize("damage", ["flip", "shorten", "remove"])
def test_log_that_was_changed_before_the_mark_is_refused(tmp_path: Path, damage: str) -> None:
    writer, path = LogWriter(tmp_path, start={}), tmp_path / "iterations.jsonl"
    writer.write("iteration", lambda: [row(number) for number in range(1, 100)])
    mark = kept(writer)
    writer.close()
    content = path.read_bytes()
    if damage == "remove":
        path.unlink()
    else:
        path.write_bytes(content[:-5] if damage == "shorten" else content.replace(b"50", b"51"))
    with pytest.raises(Refused, match=r"iterations.jsonl: is not what the run wrote"):
        LogWriter(tmp_path, start=mark)


def test_observers_see_rows_that_are_written_already(tmp_path: Path) -> None:
    seen: list[Any] = []
    writer = LogWriter(
        tmp_path,
        start={},
        observers=(lambda kind, rows: seen.append((kind, rows, read_rows(tmp_path / "iterations.jsonl"))),),
    )
    writer.write("iteration", lambda: [row(1)])
    writer.close()
    assert seen == [("iteration", [row(1)], [row(1)])]


def no_space() -> list[dict[str, Any]]:
    raise OSError(28, "No space left on device")


def test_error_in_the_thread_fails_the_mark_and_every_later_call(tmp_path: Path) -> None:
    writer = LogWriter(tmp_path, start={})
    writer.write("iteration", no_space)
    with pytest.raises(OSError, match="No space left"):
        kept(writer)
    for call in (lambda: writer.write("iteration", lambda: [row(2)]), writer.close):
        with pytest.raises(OSError, match="No space left"):
            call()
    assert (tmp_path / "iterations.jsonl").read_bytes() == b""


def test_full_disk_leaves_whole_lines_only(tmp_path: Path) -> None:
    writer = LogWriter(tmp_path, start={})
    writer.write("iteration", lambda: [row(1)])
    kept(writer)
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (50, limit[1]))
        writer.write("iteration", lambda: [row(number) for number in range(2, 10)])
        with pytest.raises(OSError, match="File too large"):
            kept(writer)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
        signal.signal(signal.SIGXFSZ, before)
    with pytest.raises(OSError, match="File too large"):
        writer.close()
    assert (tmp_path / "iterations.jsonl").read_bytes() == b'{"iteration":1}\n'


def test_number_that_is_not_finite_becomes_null(tmp_path: Path) -> None:
    writer = LogWriter(tmp_path, start={})
    writer.write("iteration", lambda: [{"iteration": 1, "train/loss": float("nan"), "lr": float("inf")}])
    writer.close()
    assert read_rows(tmp_path / "iterations.jsonl") == [{"iteration": 1, "train/loss": None, "lr": None}]
