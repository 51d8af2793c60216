import os
import subprocess
import sys

import pytest

from mbtrain.log.status import is_over, process_lives, read_status, write_status


def test_a_folder_without_a_run_has_no_status_and_is_not_over(tmp_path):
    assert read_status(tmp_path) is None
    assert not is_over(tmp_path)


def test_what_is_written_is_read_back_with_this_process(tmp_path):
    write_status(tmp_path, "failed", "out of memory")
    assert read_status(tmp_path) == {"status": "failed", "pid": os.getpid(), "message": "out of memory"}


def test_nothing_else_is_left_in_the_folder(tmp_path):
    write_status(tmp_path, "running")
    write_status(tmp_path, "done")
    assert [path.name for path in tmp_path.iterdir()] == ["status.json"]


def test_a_write_that_breaks_leaves_the_old_status(tmp_path, monkeypatch):
    write_status(tmp_path, "running")
    monkeypatch.setattr(os, "fsync", _full_disk)
    with pytest.raises(OSError, match="disk full"):
        write_status(tmp_path, "done")
    assert (read_status(tmp_path) or {})["status"] == "running"


def _full_disk(descriptor: int) -> None:
    raise OSError("disk full")


def test_a_run_whose_process_lives_is_not_over(tmp_path):
    write_status(tmp_path, "running")
    assert not is_over(tmp_path)


@pytest.mark.parametrize("status", ["done", "failed", "interrupted"])
def test_a_final_status_is_over_while_the_process_lives(tmp_path, status):
    write_status(tmp_path, status)
    assert is_over(tmp_path)


def test_a_run_whose_process_is_gone_is_over(tmp_path):
    _write_status_in_a_child(tmp_path).wait()
    assert (read_status(tmp_path) or {})["status"] == "running"
    assert is_over(tmp_path)


@pytest.mark.skipif(not os.path.exists("/proc/self/stat"), reason="needs /proc")
def test_a_dead_process_that_nobody_buried_does_not_live(tmp_path):
    child = _write_status_in_a_child(tmp_path)
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)  # it has ended, and stays in the process table
    os.kill(child.pid, 0)
    assert not process_lives(child.pid)
    assert is_over(tmp_path)
    child.wait()


def _write_status_in_a_child(folder) -> subprocess.Popen:
    code = f"from mbtrain.log.status import write_status; write_status({str(folder)!r}, 'running')"
    return subprocess.Popen([sys.executable, "-c", code])
