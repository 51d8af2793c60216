import json

import pytest

from mbtrain.plan.refused import Refused
from mbtrain.trackers.guarded import Guarded


class Fragile:
    """Fails at the iteration given; notes what it was given."""

    address = "nowhere"

    def __init__(self, fails_at=None):
        self.fails_at = fails_at
        self.given = []

    def __call__(self, kind, row):
        if row["iteration"] == self.fails_at:
            raise ConnectionError("the line\nis dead")
        self.given.append((kind, row["iteration"]))

    def close(self, status, result):
        self.given.append((status, result))


@pytest.fixture
def guard(tmp_path):
    return lambda make: Guarded("mine", tmp_path, make)


@pytest.fixture
def state(tmp_path):
    return lambda: json.loads((tmp_path / "trackers" / "mine.json").read_text())


def test_state_says_the_address_before_the_first_row(guard, state):
    guard(Fragile)
    assert state() == {"rows": 0, "epochs": 0, "status": "running", "error": None, "address": "nowhere"}


def test_rows_and_epochs_are_counted_apart(guard, state):
    tracker = guard(Fragile)
    tracker("iteration", {"iteration": 1})
    tracker("iteration", {"iteration": 2})
    tracker("epoch", {"iteration": 2})
    tracker.close("done", None)
    assert (state()["rows"], state()["epochs"], state()["status"]) == (2, 1, "complete")


def test_a_tracker_that_raised_is_given_nothing_more(guard):
    inner = Fragile(fails_at=2)
    tracker = guard(lambda: inner)
    for i in (1, 2, 3):
        tracker("iteration", {"iteration": i})
    tracker.close("done", {})
    assert inner.given == [("iteration", 1)]
    assert tracker.has_failed


def test_a_failure_is_one_line_on_stderr_and_in_the_state(guard, state, capsys):
    tracker = guard(lambda: Fragile(fails_at=2))
    for i in (1, 2, 3):
        tracker("iteration", {"iteration": i})
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("mbtrain: tracker mine stopped after 1 iterations: ConnectionError: the line is dead.")
    assert state()["error"] == "ConnectionError: the line is dead"
    assert state()["status"] == "failed"


def test_a_tracker_that_cannot_be_built_has_failed(guard, state, capsys):
    def make():
        raise Refused("tracker.mine.colour=red is not known")

    assert guard(make).has_failed
    assert state()["error"] == "tracker.mine.colour=red is not known"
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_a_failure_at_the_end_is_not_complete(guard, state, capsys):
    class Full(Fragile):
        def close(self, status, result):
            raise OSError("disk full")

    guard(Full).close("done", None)
    assert state()["status"] == "failed"


def test_a_plain_function_is_a_tracker(guard, state):
    seen = []
    tracker = guard(lambda: lambda kind, row: seen.append(row["iteration"]))
    tracker("iteration", {"iteration": 1})
    tracker.close("done", None)
    assert seen == [1]
    assert state()["status"] == "complete"


def test_state_is_not_written_at_every_row(guard, state, monkeypatch):
    tracker = guard(Fragile)
    monkeypatch.setattr("mbtrain.trackers.guarded.SAVE_EVERY_S", 1000.0)
    tracker("iteration", {"iteration": 1})
    tracker.save()
    assert state()["rows"] == 0
    monkeypatch.setattr("mbtrain.trackers.guarded.SAVE_EVERY_S", 0.0)
    tracker.save()
    assert state()["rows"] == 1
