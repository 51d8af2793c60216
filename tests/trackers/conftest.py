"""A fake run folder, and the side process beside it."""

import os
import subprocess
import sys

import pytest

from tests.trackers.fake_runs import ROOT, FakeRun


@pytest.fixture
def fake_run(tmp_path) -> FakeRun:
    return FakeRun(tmp_path / "my run")


@pytest.fixture
def environ(tmp_path) -> dict[str, str]:
    """An environment in which nothing of this machine's user is seen, touched or sent anywhere."""
    home = tmp_path / "home"
    home.mkdir()
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("WANDB", "HF_", "TRACKIO", "XDG"))}
    closed = {"WANDB_ERROR_REPORTING": "false", "HF_HUB_OFFLINE": "1", "NETRC": str(home / "none")}
    # The proxies lead nowhere: what tried to connect would fail.
    closed |= {"http_proxy": "http://127.0.0.1:9", "https_proxy": "http://127.0.0.1:9"}
    path = os.pathsep.join([str(ROOT), str(tmp_path), *filter(None, [os.environ.get("PYTHONPATH")])])
    return kept | closed | {"HOME": str(home), "PYTHONPATH": path}


@pytest.fixture
def side_process(fake_run, environ, tmp_path):
    """Start `python -m mbtrain.trackers RUN ...` in a process group of its own; what is left is killed at the end."""
    started = []

    def start(*arguments: str, **more) -> subprocess.Popen:
        command = [sys.executable, "-W", "error", "-m", "mbtrain.trackers", str(fake_run.folder), *arguments]
        pipe = subprocess.PIPE
        options = {"env": environ, "cwd": tmp_path, "start_new_session": True, "text": True} | more
        process = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, **options)
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()
