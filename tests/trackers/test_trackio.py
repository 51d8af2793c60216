import json
import sqlite3

import pytest

pytest.importorskip("trackio")


@pytest.fixture
def database(fake_run, side_process, tmp_path):
    """Hand a finished run to trackio twice, as after a kill, and read what its database then holds."""
    fake_run.configure("trackio", trackio={"folder": str(tmp_path / "db"), "group": "g"})
    fake_run.write(1, 15)
    fake_run.finish("interrupted")
    assert side_process().wait() == 0
    fake_run.write(16, 30)
    fake_run.finish()
    process = side_process()
    stdout, stderr = process.communicate()
    assert (process.returncode, stdout, stderr) == (0, "", "")
    (file,) = (tmp_path / "db").glob("*.db")
    return sqlite3.connect(file)


@pytest.mark.slow
def test_two_readings_leave_one_run_with_each_iteration_once(database, fake_run):
    rows = database.execute("select run_name, step, metrics from metrics order by id").fetchall()
    (name,) = {row[0] for row in rows}
    assert name == (fake_run.folder / "trackers" / "identity").read_text()
    metrics = [(step, json.loads(metrics)) for _, step, metrics in rows]
    assert [step for step, row in metrics if "train/loss" in row] == list(range(1, 31))
    assert [(step, row["train/loss_epoch"]) for step, row in metrics if "val/loss" in row] == [
        (10, 0.5),
        (20, 0.5),
        (30, 0.5),
    ]
    ((config,),) = database.execute("select config from configs").fetchall()
    assert json.loads(config)["batch"] == {"size": 3}
    assert json.loads(config)["_Group"] == "g"
    database.close()
