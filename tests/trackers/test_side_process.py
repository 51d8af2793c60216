import csv
import os
import signal
import subprocess
import sys
import threading

import orjson
import pytest

from mbtrain.log.status import write_status
from mbtrain.trackers import __main__ as side
from mbtrain.trackers.guarded import Guarded

MINE = """
class Mine:
    def __init__(self, *, run_dir, name, config, fails_at=None):
        self.path, self.fails_at = f"{run_dir}/mine.txt", fails_at
        self.note(f"begin {name} {config['seed']}")
    def note(self, line):
        with open(self.path, "a") as file:
            file.write(line + "\\n")
    def __call__(self, kind, row):
        if row["iteration"] == self.fails_at:
            raise ConnectionError("gone")
        self.note(f"{kind} {row['iteration']}")
    def close(self, status, result):
        self.note(f"end {status} {result and result['test/accuracy']}")
"""


def iterations(fake_run):
    with (fake_run.folder / "trackers" / "iterations.csv").open(newline="") as file:
        return [int(row["iteration"]) for row in csv.DictReader(file)]


def test_a_finished_run_is_replayed_whole(fake_run):
    fake_run.configure("csv")
    fake_run.write(1, 25)
    fake_run.finish()
    assert side.main([str(fake_run.folder)]) == 0
    assert iterations(fake_run) == list(range(1, 26))
    assert (fake_run.state("csv")["rows"], fake_run.state("csv")["epochs"]) == (25, 2)


def test_a_run_is_followed_until_it_is_over(fake_run):
    fake_run.configure("csv")
    write_status(fake_run.folder, "running")

    def train():
        for first in range(1, 101, 10):
            fake_run.write(first, first + 9)
        fake_run.finish()

    thread = threading.Thread(target=train)
    thread.start()
    assert side.main([str(fake_run.folder)]) == 0
    thread.join()
    assert iterations(fake_run) == list(range(1, 101))
    assert fake_run.state("csv")["status"] == "complete"


def test_a_user_s_own_tracker_is_given_what_it_asks_for(fake_run, tmp_path, monkeypatch):
    (tmp_path / "own_tracker_a.py").write_text(MINE)
    monkeypatch.syspath_prepend(tmp_path)
    fake_run.configure(trackers={"mine": {"_target_": "own_tracker_a.Mine"}})
    fake_run.write(1, 10)
    fake_run.finish()
    assert side.main([str(fake_run.folder), "--trust", "own_tracker_a"]) == 0
    lines = (fake_run.folder / "mine.txt").read_text().splitlines()
    assert lines == ["begin a fake 0", *[f"iteration {i}" for i in range(1, 11)], "epoch 10", "end done 0.97"]


def test_trust_in_the_saved_config_does_not_count(fake_run, tmp_path, monkeypatch, capsys):
    (tmp_path / "own_tracker_b.py").write_text(MINE)
    monkeypatch.syspath_prepend(tmp_path)
    fake_run.configure(trackers={"mine": {"_target_": "own_tracker_b.Mine"}})
    with (fake_run.folder / "config.yaml").open("a") as file:
        file.write("trust: [own_tracker_b]\n")
    fake_run.write(1, 10)
    fake_run.finish()
    assert side.main([str(fake_run.folder)]) == 1
    assert "own_tracker_b" not in sys.modules
    assert "trust" in capsys.readouterr().err


def test_a_tracker_that_dies_leaves_the_others(fake_run, tmp_path, monkeypatch, capsys):
    (tmp_path / "own_tracker_c.py").write_text(MINE)
    monkeypatch.syspath_prepend(tmp_path)
    fake_run.configure("csv", trackers={"mine": {"_target_": "own_tracker_c.Mine", "fails_at": 5}})
    fake_run.write(1, 10)
    fake_run.finish()
    assert side.main([str(fake_run.folder), "--trust", "own_tracker_c"]) == 1
    assert (fake_run.state("mine")["status"], fake_run.state("mine")["rows"]) == ("failed", 4)
    assert iterations(fake_run) == list(range(1, 11))
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_a_run_that_was_killed_ends_as_failed(fake_run, tmp_path, monkeypatch):
    (tmp_path / "own_tracker_d.py").write_text(MINE)
    monkeypatch.syspath_prepend(tmp_path)
    fake_run.configure(trackers={"mine": {"_target_": "own_tracker_d.Mine"}})
    fake_run.write(1, 3)
    code = f"from mbtrain.log.status import write_status; write_status({str(fake_run.folder)!r}, 'running')"
    subprocess.run([sys.executable, "-c", code], check=True)
    assert side.main([str(fake_run.folder), "--trust", "own_tracker_d"]) == 0
    assert (fake_run.folder / "mine.txt").read_text().splitlines()[-1] == "end failed None"


def test_only_the_trackers_named_are_run(fake_run):
    fake_run.configure("csv", "wandb")
    fake_run.write(1, 3)
    fake_run.finish()
    assert side.main([str(fake_run.folder), "csv"]) == 0
    assert not (fake_run.folder / "trackers" / "wandb.json").exists()


def test_a_tracker_that_the_run_did_not_have_gets_the_shipped_options(fake_run):
    fake_run.configure()
    fake_run.write(1, 3)
    fake_run.finish()
    assert side.main([str(fake_run.folder), "csv"]) == 0
    assert iterations(fake_run) == [1, 2, 3]


@pytest.mark.parametrize("name", ["wandbb", "../../etc"])
def test_an_unknown_name_is_refused_in_one_line(fake_run, capsys, name):
    fake_run.configure()
    assert side.main([str(fake_run.folder), name]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "csv, tensorboard, trackio, wandb" in line


def test_a_folder_that_is_no_run_is_refused_in_one_line(tmp_path, capsys):
    assert side.main([str(tmp_path)]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_a_missing_package_fails_that_tracker_with_the_install_command(fake_run, monkeypatch, capsys):
    fake_run.configure("csv", "tensorboard")
    fake_run.write(1, 3)
    fake_run.finish()
    monkeypatch.setattr("mbtrain.trackers.find_spec", lambda name: None)
    assert side.main([str(fake_run.folder)]) == 1
    assert "pip install 'mbtrain[tensorboard]'" in fake_run.state("tensorboard")["error"]
    assert iterations(fake_run) == [1, 2, 3]
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_it_waits_for_a_trainer_that_has_not_begun(fake_run, side_process):
    process = side_process("csv", "--wait", str(os.getpid()))
    fake_run.configure("csv")
    fake_run.write(1, 5)
    write_status(fake_run.folder, "running")
    fake_run.finish()
    assert process.wait() == 0
    assert iterations(fake_run) == [1, 2, 3, 4, 5]


def test_the_state_of_an_earlier_process_is_not_taken_for_the_trainer_s(fake_run, side_process):
    fake_run.configure("csv")
    fake_run.write(1, 5)
    fake_run.finish("interrupted")
    earlier = orjson.loads((fake_run.folder / "status.json").read_bytes()) | {"pid": 1}
    (fake_run.folder / "status.json").write_bytes(orjson.dumps(earlier))
    process = side_process("csv", "--wait", str(os.getpid()))
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(timeout=1)
    fake_run.write(6, 8)
    fake_run.finish()
    assert process.wait() == 0
    assert iterations(fake_run) == list(range(1, 9))


def test_a_run_has_begun_when_its_config_is_there_too(fake_run, monkeypatch):
    write_status(fake_run.folder, "running")
    monkeypatch.setattr(side, "_set_at_end_of_input", lambda left: None)
    monkeypatch.setattr(side.time, "sleep", lambda seconds: fake_run.configure("csv"))
    assert side._has_begun(fake_run.folder, trainer=os.getpid())
    assert (fake_run.folder / "config.yaml").exists()


def test_it_gives_up_silently_when_the_trainer_ends_without_a_run(fake_run, side_process):
    process = side_process("csv", "--wait", str(os.getpid()))
    stdout, stderr = process.communicate()  # closes its stdin
    assert (process.returncode, stdout, stderr) == (0, "", "")


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_a_signal_to_the_group_does_not_keep_it_from_reading_to_the_end(fake_run, side_process, name):
    fake_run.configure("csv")
    fake_run.write(1, 5)
    write_status(fake_run.folder, "running")
    process = side_process("csv", "--wait", str(os.getpid()))
    while not (fake_run.folder / "trackers" / "csv.json").exists():
        assert process.poll() is None
    os.killpg(process.pid, getattr(signal, name))
    fake_run.write(6, 10)
    fake_run.finish("interrupted")
    assert process.wait() == 0
    assert iterations(fake_run) == list(range(1, 11))


def test_a_second_process_for_the_same_tracker_waits_for_the_first(fake_run, side_process):
    fake_run.configure("csv")
    fake_run.write(1, 5)
    write_status(fake_run.folder, "running")
    first = side_process("csv", "--wait", str(os.getpid()))
    while not (fake_run.folder / "trackers" / "csv.json").exists():
        assert first.poll() is None
    second = side_process("csv")
    assert second.stderr is not None
    assert "waiting until it ends" in second.stderr.readline()
    fake_run.finish()
    assert (first.wait(), second.wait()) == (0, 0)
    assert iterations(fake_run) == [1, 2, 3, 4, 5]


def test_it_leaves_a_run_that_another_process_goes_on_with(fake_run):
    write_status(fake_run.folder, "running")
    is_at_end = side._end_of(fake_run.folder, [Guarded("mine", fake_run.folder, lambda: print)])
    assert not is_at_end()
    status = orjson.loads((fake_run.folder / "status.json").read_bytes())
    (fake_run.folder / "status.json").write_bytes(orjson.dumps(status | {"pid": os.getppid()}))
    assert is_at_end()


def test_the_side_process_imports_no_torch(fake_run):
    fake_run.configure("csv")
    fake_run.write(1, 3)
    fake_run.finish()
    code = f"import sys; from mbtrain.trackers.__main__ import main; main([{str(fake_run.folder)!r}])"
    code += "; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
