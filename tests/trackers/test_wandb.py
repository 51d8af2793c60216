"""All of it offline: the runs are real, their files are read back with wandb's own `wandb leet inspect`."""

import contextlib
import json
import os
import subprocess
import sys
import time
from inspect import signature
from pathlib import Path
from types import SimpleNamespace

import pytest
import wandb
import yaml

from mbtrain.log.status import write_status
from mbtrain.trackers import wandb as tracker_module
from mbtrain.trackers.wandb import FLUSH, Wandb, key_is_configured

OPTIONS = {"group": "my group", "tags": ["a", "b"], "notes": "said", "job_type": "probe"}


def offline_folders(fake_run) -> list[Path]:
    return sorted((fake_run.folder / "wandb").glob("offline-run-*"))


def inspect(folder: Path, environ, *options) -> str:
    (file,) = folder.glob("*.wandb")
    command = [sys.executable, "-m", "wandb", "leet", "inspect", "--json", *options, str(file)]
    return subprocess.run(command, env=environ, capture_output=True, text=True, check=True).stdout


def records(folder: Path, environ) -> list[dict]:
    return [json.loads(line) for line in inspect(folder, environ).splitlines()]


def history(folder: Path, environ) -> list[dict]:
    return [record["history"]["item"] for record in records(folder, environ) if record["type"] == "history"]


def children(pid: int) -> list[int]:
    """Processes whose parent is `pid`: the fourth field of /proc/N/stat, the second after the name in brackets."""
    found = []
    for file in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):  # it ended meanwhile
            if int(file.read_text().rpartition(")")[2].split()[1]) == pid:
                found.append(int(file.parent.name))
    return found


@pytest.fixture
def finished(fake_run, side_process):
    """A finished run of 40 iterations, handed to wandb offline."""
    fake_run.configure("wandb", wandb=OPTIONS)
    fake_run.write(1, 40)
    fake_run.finish()
    process = side_process()
    assert process.communicate() == ("", "")
    assert process.returncode == 0
    return fake_run


@pytest.mark.slow
def test_an_offline_run_holds_rows_axes_labels_config_and_summary(finished, environ):
    (folder,) = offline_folders(finished)
    steps = history(folder, environ)
    assert [step["iteration"] for step in steps] == list(range(1, 41))
    assert [step["_step"] for step in steps] == list(range(1, 41))
    assert steps[1]["train/loss"] == "NaN"
    assert [step["_step"] for step in steps if "train/loss_epoch" in step] == [10, 20, 30, 40]
    assert steps[9]["train/loss"] == 0.1
    assert steps[9]["val/loss"] == 0.75

    found = records(folder, environ)
    (run,) = [record["run"] for record in found if record["type"] == "run"]
    assert run["run_id"] == (finished.folder / "trackers" / "identity").read_text()
    assert run["config"]["update"] | {"_wandb": None} == {
        "name": "a fake",
        "run_dir": str(finished.folder),
        "seed": 0,
        "batch": {"size": 3},
        "_wandb": None,
    }
    labels = {key: run[key] for key in ("display_name", "project", "run_group", "job_type", "tags", "notes")}
    assert labels == {
        "display_name": "a fake",
        "project": "mbtrain",
        "run_group": "my group",
        "job_type": "probe",
        "tags": ["a", "b"],
        "notes": "said",
    }

    metrics = [record["metric"] for record in found if record["type"] == "metric"]
    axes = {metric.get("name") or metric["glob_name"]: metric.get("step_metric") for metric in metrics}
    assert axes == {
        "iteration": None,
        "epoch": None,
        "samples_seen": None,
        "*": "iteration",
        "train/loss_epoch": "epoch",
        "time/epoch_s_epoch": "epoch",
    }

    summary = json.loads(inspect(folder, environ, "--summary"))
    assert summary["state"] == "finished"
    wanted = {
        "status": "done",
        "test/accuracy": 0.97,
        "val/loss": 0.25,
        "samples_per_s": 10000,
        "weights_sha256": "ab12",
    }
    assert {key: summary["summary"][key] for key in wanted} == wanted
    assert summary["summary"]["iteration"] == 40


@pytest.mark.slow
def test_nothing_lands_in_the_home_folder_or_beside_the_run(finished, environ, tmp_path):
    # What wandb-core writes about itself follows WANDB_CACHE_DIR.
    assert [path for path in Path(environ["HOME"]).rglob("*") if path.is_file()] == []
    assert sorted(path.name for path in tmp_path.iterdir()) == ["home", finished.folder.name]


@pytest.mark.slow
def test_the_address_is_the_command_that_opens_the_folder(finished):
    (folder,) = offline_folders(finished)
    assert finished.state("wandb")["address"] == f"wandb leet '{folder}' (in place of leet, sync uploads it)"


@pytest.mark.slow
def test_a_side_process_killed_in_the_middle_leaves_one_run_with_each_iteration_once(fake_run, side_process, environ):
    fake_run.configure("wandb")
    fake_run.write(1, 150)
    write_status(fake_run.folder, "running")
    first = side_process("wandb", "--wait", str(os.getpid()))
    # Its rows come onto the disk every half second, as the setting asks.
    for i in range(151, 100_000, 10):
        assert first.poll() is None
        fake_run.write(i, i + 9)
        if (folders := offline_folders(fake_run)) and list(folders[0].glob("*.wandb")) and history(folders[0], environ):
            break
        time.sleep(0.05)
    first.kill()
    first.wait()
    last = i + 9 + 50
    fake_run.write(i + 10, last)
    fake_run.finish()

    assert side_process().wait() == 0
    (folder,) = offline_folders(fake_run)
    assert [step["iteration"] for step in history(folder, environ)] == list(range(1, last + 1))


@pytest.mark.slow
def test_a_failed_run_ends_as_failed(fake_run, side_process, environ):
    fake_run.configure("wandb")
    fake_run.write(1, 3)
    fake_run.finish("failed")
    assert side_process().wait() == 0
    summary = json.loads(inspect(offline_folders(fake_run)[0], environ, "--summary"))
    assert (summary["state"], summary["exit_code"], summary["summary"]["status"]) == ("failed", 1, "failed")


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs /proc")
def test_the_death_of_wandb_s_own_service_leaves_the_other_trackers(fake_run, side_process):
    fake_run.configure("wandb", "csv")
    fake_run.write(1, 5)
    write_status(fake_run.folder, "running")
    process = side_process()
    while not (fake_run.folder / "trackers" / "wandb.json").exists():
        assert process.poll() is None
    (service,) = children(process.pid)
    os.kill(service, 9)
    for i in range(6, 30):
        fake_run.write(i, i)
        time.sleep(0.01)
    fake_run.finish()
    _, stderr = process.communicate()
    assert process.returncode == 1
    assert stderr.count("tracker wandb stopped") == 1
    assert fake_run.state("wandb")["status"] == "failed"
    assert fake_run.state("csv") | {"address": None} == {
        "rows": 29,
        "epochs": 2,
        "status": "complete",
        "error": None,
        "address": None,
    }


def test_the_private_setting_that_flushes_still_exists():
    assert FLUSH in wandb.Settings.model_fields


def test_the_shipped_config_sets_every_option_of_the_tracker(fake_run):
    fake_run.configure("wandb")
    config = yaml.safe_load((fake_run.folder / "config.yaml").read_text())
    asked = set(signature(Wandb).parameters) - {"run_dir", "name", "config"}
    assert set(config["tracker"]["wandb"]) - {"_target_"} == asked


DEFAULT = wandb.Settings.model_fields["base_url"].default


@pytest.mark.parametrize(
    ("address", "machine", "is_there"),
    [
        (DEFAULT, None, False),
        (DEFAULT, "api.wandb.ai", True),
        (DEFAULT, "other.example", False),
        ("https://wandb.example:8080", "wandb.example:8080", True),
        ("https://wandb.example", "api.wandb.ai", False),
    ],
)
def test_a_netrc_entry_for_the_server_is_a_key(tmp_path, address, machine, is_there):
    file = tmp_path / "netrc"
    if machine is not None:
        file.write_text(f"machine {machine}\n  login user\n  password {'0' * 40}\n")
        file.chmod(0o600)
    assert key_is_configured(address, {"NETRC": str(file)}) is is_there


def test_a_key_in_the_environment_is_a_key(tmp_path):
    assert key_is_configured(DEFAULT, {"NETRC": str(tmp_path / "none"), "WANDB_API_KEY": "0" * 40})


class FakeServerRun:
    """What wandb.init returns for a run of which the server has steps up to `step` - 1."""

    def __init__(self, step):
        self.step = step
        self.url = "https://wandb.example/me/mbtrain/runs/x"
        self.summary = {}
        self.logged = []
        self.settings = SimpleNamespace(sync_dir="unused")

    def define_metric(self, *names, **options):
        pass

    def log(self, row, *, step, commit):
        assert commit
        self.logged.append((step, row))

    def finish(self, exit_code):
        self.exit_code = exit_code


@pytest.fixture
def with_server(fake_run, monkeypatch, tmp_path):
    """Build the tracker with wandb.init replaced; the run and what init was given come back."""
    for variable in ("WANDB_CACHE_DIR", "WANDB_DATA_DIR", "WANDB_ARTIFACT_DIR", "WANDB_ERROR_REPORTING"):
        monkeypatch.setenv(variable, str(tmp_path))
    monkeypatch.delenv("WANDB_MODE", raising=False)

    def build(*, step=0, has_key=True, mode=None):
        run, given = FakeServerRun(step), {}
        monkeypatch.setattr(wandb, "init", lambda **arguments: given.update(arguments) or run)
        monkeypatch.setattr(tracker_module, "_has_key", lambda: has_key)
        fake_run.configure("wandb")
        config = yaml.safe_load((fake_run.folder / "config.yaml").read_text())
        options = {key: value for key, value in config["tracker"]["wandb"].items() if key != "_target_"}
        tracker = Wandb(run_dir=str(fake_run.folder), name="n", config=config, **options | {"mode": mode})
        return tracker, run, given

    return build


def test_online_it_goes_on_after_the_last_step_that_the_server_has(with_server):
    tracker, run, given = with_server(step=4)
    for i in range(1, 7):
        tracker("iteration", {"iteration": i})
        tracker("epoch", {"iteration": i, "val/loss": 1.0})
    tracker.close("done", None)
    assert given["resume"] == "allow"
    assert [(step, row["val/loss"]) for step, row in run.logged] == [(4, 1.0), (5, 1.0), (6, 1.0)]


def test_online_the_address_is_the_page_of_the_run(with_server):
    tracker, run, _ = with_server()
    assert tracker.address == run.url


@pytest.mark.parametrize(
    ("option", "variable", "has_key", "mode"),
    [
        (None, None, True, "online"),
        (None, None, False, "offline"),
        (None, "offline", True, "offline"),
        (None, "online", False, "online"),
        ("offline", "online", True, "offline"),
        ("online", "offline", False, "online"),
    ],
)
def test_mode_is_the_option_then_the_environment_then_what_the_keys_allow(
    with_server, monkeypatch, option, variable, has_key, mode
):
    if variable is not None:
        monkeypatch.setenv("WANDB_MODE", variable)
    assert with_server(mode=option, has_key=has_key)[2]["mode"] == mode


@pytest.mark.parametrize(("status", "exit_code"), [("done", 0), ("failed", 1), ("interrupted", 1)])
def test_only_a_run_that_is_done_ends_as_a_success(with_server, status, exit_code):
    tracker, run, _ = with_server()
    tracker.close(status, None)
    assert (run.exit_code, run.summary["status"]) == (exit_code, status)


def test_trackers_options_are_not_sent(with_server):
    assert "tracker" not in with_server()[2]["config"]
