import csv

from mbtrain.trackers.csv import Csv


def tables(folder, *rows):
    tracker = Csv(run_dir=str(folder))
    for kind, row in rows:
        tracker(kind, row)
    tracker.close("done", None)
    found = {}
    for name in ("iterations", "epochs"):
        with (folder / "trackers" / f"{name}.csv").open(newline="") as file:
            found[name] = list(csv.DictReader(file))
    return found


def test_rows_of_each_kind_are_in_their_own_table(tmp_path):
    found = tables(
        tmp_path, ("iteration", {"iteration": 1, "train/loss": 0.1}), ("epoch", {"iteration": 1, "val/loss": 2})
    )
    assert found["iterations"] == [{"iteration": "1", "train/loss": "0.1"}]
    assert found["epochs"] == [{"iteration": "1", "val/loss": "2"}]


def test_a_column_that_appears_late_is_empty_in_the_rows_before(tmp_path):
    found = tables(
        tmp_path,
        ("iteration", {"iteration": 1, "a": 1}),
        ("iteration", {"iteration": 2, "a": 1, "noise": 5}),
        ("iteration", {"iteration": 3, "more": 6, "noise": 7}),
    )
    assert found["iterations"] == [
        {"iteration": "1", "a": "1", "noise": "", "more": ""},
        {"iteration": "2", "a": "1", "noise": "5", "more": ""},
        {"iteration": "3", "a": "", "noise": "7", "more": "6"},
    ]


def test_a_number_that_is_not_finite_differs_from_one_that_was_not_measured(tmp_path):
    found = tables(tmp_path, ("iteration", {"iteration": 1, "loss": None}), ("iteration", {"iteration": 2}))
    assert [row["loss"] for row in found["iterations"]] == ["nan", ""]


def test_a_replay_replaces_what_an_earlier_reading_left(tmp_path):
    tables(tmp_path, ("iteration", {"iteration": 1, "old": 1}))
    assert tables(tmp_path, ("iteration", {"iteration": 1}))["iterations"] == [{"iteration": "1"}]


def test_a_row_is_in_the_file_before_the_end(tmp_path):
    tracker = Csv(run_dir=str(tmp_path))
    tracker("iteration", {"iteration": 1})
    assert (tmp_path / "trackers" / "iterations.csv").read_text() == "iteration\n1\n"
    tracker.close("done", None)


def test_only_the_two_tables_are_left(tmp_path):
    tables(tmp_path, ("iteration", {"iteration": 1}), ("iteration", {"iteration": 2, "late": 1}))
    assert sorted(path.name for path in (tmp_path / "trackers").iterdir()) == ["epochs.csv", "iterations.csv"]
