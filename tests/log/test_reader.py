import json
import threading

import pytest

from mbtrain.log import reader
from mbtrain.log.reader import follow, read_rows


def row(iteration, **more):
    return {"iteration": iteration, **more}


def append(path, rows, *, partial=""):
    with path.open("a") as file:
        file.write("".join(json.dumps(row) + "\n" for row in rows) + partial)


def cut_after(path, num_lines):
    """Cut a file back as a resume does, to the end of one of its lines."""
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:num_lines]))


class Log:
    """A run's two files, and the reader's looks at them one by one: `acts` are what the writer does in between."""

    def __init__(self, folder):
        self.folder = folder
        self.iterations = folder / "iterations.jsonl"
        self.epochs = folder / "epochs.jsonl"

    def follow(self, *acts):
        """(kind, iteration) of all rows, where act i is done before the reader's look i."""
        remaining = list(acts)

        def is_over():
            if remaining:
                remaining.pop(0)()
            return not remaining

        found = follow(self.folder, poll_s=0, is_over=is_over)
        return [(kind[0], row["iteration"]) for kind, row in found]


@pytest.fixture
def log(tmp_path):
    return Log(tmp_path)


def test_read_rows_leaves_out_a_line_cut_short(log):
    append(log.iterations, [row(1), row(2)], partial='{"iteration": 3}')
    assert read_rows(log.iterations) == [row(1), row(2)]


def test_a_damaged_line_is_named_with_its_file(log):
    log.iterations.write_text('{"iteration": 1}\n\0\0\0\n')
    with pytest.raises(ValueError, match=r"iterations\.jsonl: a line that is not JSON"):
        read_rows(log.iterations)


def test_a_run_without_rows_gives_none(log):
    assert log.follow() == []


def test_the_epoch_row_comes_right_after_its_iteration(log):
    append(log.iterations, [row(i) for i in range(1, 6)])
    append(log.epochs, [row(2), row(4)])
    assert log.follow() == [("i", 1), ("i", 2), ("e", 2), ("i", 3), ("i", 4), ("e", 4), ("i", 5)]


def test_an_epoch_row_that_comes_late_is_before_the_next_iteration(log):
    append(log.iterations, [row(1), row(2)])
    found = log.follow(
        lambda: None,
        lambda: append(log.epochs, [row(2)]),
        lambda: append(log.iterations, [row(3)]),
    )
    assert found == [("i", 1), ("i", 2), ("e", 2), ("i", 3)]


def test_an_epoch_row_waits_for_its_iteration(log):
    append(log.iterations, [row(1)])
    append(log.epochs, [row(2)])
    assert log.follow(lambda: None, lambda: append(log.iterations, [row(2)])) == [("i", 1), ("i", 2), ("e", 2)]


def test_an_epoch_row_whose_iteration_was_lost_in_a_crash_is_not_handed_out(log):
    append(log.iterations, [row(1)], partial='{"iterat')
    append(log.epochs, [row(2)])
    assert log.follow() == [("i", 1)]


def test_a_line_is_handed_out_when_it_is_whole(log):
    append(log.iterations, [row(1)], partial='{"iteration"')
    found = log.follow(lambda: None, lambda: append(log.iterations, [], partial=": 2}\n"))
    assert found == [("i", 1), ("i", 2)]


def test_a_line_that_is_completed_while_it_is_read_waits_for_the_next_look():
    # A file's own readlines gives "b" and then, when the writer was quick, "c" as further lines.
    assert list(reader._whole([b"a\n", b"b", b"c\n"])) == [b"a\n"]


def test_what_is_written_just_before_the_end_is_read(log):
    assert log.follow(lambda: None, lambda: append(log.iterations, [row(1)])) == [("i", 1)]


def test_a_log_cut_back_and_written_again_gives_each_iteration_once(log):
    append(log.iterations, [row(i, time=1.0) for i in range(1, 6)])
    append(log.epochs, [row(2, time=1.0), row(4, time=1.0)])
    found = log.follow(
        lambda: None,
        lambda: (cut_after(log.iterations, 3), cut_after(log.epochs, 1)),
        lambda: append(log.iterations, [row(4, time=2.25)]),
        lambda: append(log.epochs, [row(4, time=2.25)]),
        lambda: append(log.iterations, [row(i, time=2.25) for i in (5, 6)]),
        lambda: append(log.epochs, [row(6, time=2.25)]),
    )
    assert [item for item in found if item[0] == "i"] == [("i", i) for i in range(1, 7)]
    assert [item for item in found if item[0] == "e"] == [("e", 2), ("e", 4), ("e", 6)]


@pytest.mark.parametrize("time", [1.0, 2.5, 123456.78901], ids=["earlier", "later", "longer line"])
@pytest.mark.parametrize("num_more", [0, 1, 5, 40])
def test_a_log_that_was_cut_and_grew_past_the_reader_between_two_looks_is_noticed(log, time, num_more):
    append(log.iterations, [row(i, time=1.5) for i in range(1, 21)])

    def resume():
        cut_after(log.iterations, 7)
        append(log.iterations, [row(i, time=time) for i in range(8, 21 + num_more)])

    assert log.follow(lambda: None, resume) == [("i", i) for i in range(1, 21 + num_more)]


def test_a_file_emptied_by_the_first_iteration_starts_over(log):
    append(log.iterations, [row(1), row(2)])
    found = log.follow(
        lambda: None,
        lambda: log.iterations.write_text(""),
        lambda: append(log.iterations, [row(i, again=True) for i in (1, 2, 3)]),
    )
    assert found == [("i", 1), ("i", 2), ("i", 3)]


@pytest.mark.parametrize("block_bytes", [1, 30, 100])
def test_blocks_of_any_size_give_the_same_order(log, monkeypatch, block_bytes):
    append(log.iterations, [row(i) for i in range(1, 101)])
    append(log.epochs, [row(i) for i in range(1, 101, 3)])
    whole = log.follow()
    monkeypatch.setattr(reader, "BLOCK_BYTES", block_bytes)
    assert log.follow() == whole
    assert len(whole) == 134


@pytest.mark.parametrize("epochs_every", [1, 1000])
def test_memory_does_not_grow_with_the_log(log, monkeypatch, epochs_every):
    monkeypatch.setattr(reader, "BLOCK_BYTES", 1000)
    append(log.iterations, [row(i) for i in range(1, 5001)])
    append(log.epochs, [row(i) for i in range(1, 5001, epochs_every)])
    largest = 0

    def watch(block, waiting, last):
        nonlocal largest
        largest = max(largest, len(block), len(waiting))
        return merged(block, waiting, last)

    merged = reader._merged
    monkeypatch.setattr(reader, "_merged", watch)
    assert len(log.follow()) == 5000 + -(-5000 // epochs_every)
    assert largest < 200


@pytest.mark.parametrize("num_epochs", [1, 7, 50])
def test_a_reader_beside_a_writer_sees_every_row_in_order(log, num_epochs):
    expected = []
    for iteration in range(1, 501):
        expected.append(("i", iteration))
        if iteration % num_epochs == 0:
            expected.append(("e", iteration))
    ended = threading.Event()

    def write():
        with log.iterations.open("a", buffering=1) as iterations, log.epochs.open("a", buffering=1) as epochs:
            for kind, iteration in expected:
                (iterations if kind == "i" else epochs).write(json.dumps(row(iteration)) + "\n")
        ended.set()

    thread = threading.Thread(target=write)
    thread.start()
    found = [(kind[0], row["iteration"]) for kind, row in follow(log.folder, poll_s=0, is_over=ended.is_set)]
    thread.join()
    assert found == expected
