"""The user's own data set, model, loss, order, probe, callback and primary config, without an edit of mbtrain."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import orjson
import pytest

import mbtrain
from mbtrain.__main__ import exit_code

QUIET = ["tracker=none", "trainer.threads=1", "trainer.accelerator=cpu", "trainer.progress=false"]

MY_DATA = """
import os
import numpy as np
import pytorch_lightning as pl
import torch
from torch import nn


class Numbers(torch.utils.data.Dataset):
    def __init__(self, size=64):
        if size > 1000:
            raise RuntimeError("my data set is broken")
        random = np.random.default_rng(0)
        self.x = random.standard_normal((size, 4)).astype("float32")
        self.y = self.x.sum(1, keepdims=True)

    def __len__(self):
        return len(self.x)

    def __getitem__(self, index):
        return self.x[index], self.y[index]


class Net(nn.Module):
    def __init__(self, input_shape, num_outputs, width, breaks=False):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(input_shape[0], width), nn.Tanh(), nn.Linear(width, num_outputs))
        self.breaks = breaks

    def forward(self, x):
        if self.breaks and self.training:
            raise RuntimeError("my model is broken")
        return self.layers(x)


def quartic(output, target, scale=1.0):
    return scale * ((output - target) ** 4).sum(1)


class Backwards:
    def __init__(self, num_samples):
        self.num_samples = num_samples

    def __call__(self, epoch):
        return np.arange(self.num_samples)[::-1].copy()


class Largest:
    def __call__(self, parameters):
        return {"train/largest": torch.stack([p.grad.abs().max() for p in parameters]).max()}


class Note(pl.Callback):
    def __init__(self, file):
        self.file = file

    def on_train_batch_end(self, *args):
        with open(self.file, "a") as file:
            file.write("x")


class Killed(pl.Callback):
    def on_train_start(self, *args):
        os.kill(os.getpid(), 15)
"""

CONF = {
    "dataset/mine": "# Mine.\n_target_: my_data.Numbers\nsize: 64\n",
    "model/mine": "# Mine.\n_target_: my_data.Net\nwidth: 8\n",
    "loss/mine": "# Mine.\n_target_: my_data.quartic\n",
    "sampler/mine": "# Mine.\n_target_: my_data.Backwards\n",
    "probe/mine": "# @package probe.mine\n# Mine.\n_target_: my_data.Largest\nevery: 1it\n",
    "mine": "defaults:\n  - train\n  - _self_\ntrust: [my_data]\nname: my_primary\n",
}


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with my_data.py and conf/."""
    here = tmp_path_factory.mktemp("own")
    (here / "my_data.py").write_text(MY_DATA)
    for name, text in CONF.items():
        file = here / "conf" / f"{name}.yaml"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    return here


@pytest.fixture
def here(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of it as the working folder, and in sight of this process."""
    folder = tmp_path / "here"
    shutil.copytree(source, folder)
    monkeypatch.chdir(folder)
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.delitem(sys.modules, "my_data", raising=False)
    yield folder  # pyright: ignore[reportReturnType]
    sys.modules.pop("my_data", None)


OWN = ["dataset=mine", "model=mine", "loss=mine", "duration=2ep", "batch.size=24", "optimizer.lr=1e-4"]


def command(here: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    """What the installed command does, from a folder that it was not installed from."""
    script = "from mbtrain.__main__ import main; main()"
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    # -P: as with a console script, the working folder is not on sys.path.
    started = [sys.executable, "-P", "-c", script, *arguments]
    return subprocess.run(started, cwd=here, env=environment, capture_output=True, text=True, timeout=300)


@pytest.fixture
def say(here: Path, capfd: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str]]:
    """Type a command line in this process: exit code, and what it said on stderr."""

    def typed(*arguments: str) -> tuple[int, str]:
        capfd.readouterr()
        return exit_code(["--config-dir", "conf", *arguments, *QUIET]), capfd.readouterr().err

    return typed


Say = Callable[..., tuple[int, str]]


def rows(run_dir: Path) -> list[dict]:
    return [orjson.loads(line) for line in (run_dir / "iterations.jsonl").read_bytes().splitlines()]


@pytest.mark.slow
def test_ones_own_of_everything_from_the_command_line(here: Path) -> None:
    callback = "+trainer.extra.callbacks=[{_target_: my_data.Note, file: note.txt}]"
    choices = ["sampler=mine", "probe=mine", "run_dir=a", callback]
    done = command(here, "--config-dir", "conf", "trust=my_data", *OWN, *choices, *QUIET)
    assert done.returncode == 0, done.stderr
    assert len(rows(here / "a")) == 6
    assert all(row["train/largest"] > 0 for row in rows(here / "a"))
    assert (here / "note.txt").read_text() == "x" * 6


def test_ones_own_primary_config_may_trust(here: Path, say: Say) -> None:
    code, err = say("--config-name", "mine", *OWN, "run_dir=a")
    assert code == 0, err
    assert "name: my_primary" in (here / "a" / "config.yaml").read_text()


def test_without_trust_it_is_refused_saying_how(here: Path, say: Say) -> None:
    code, err = say(*OWN, "run_dir=a")
    assert code == 2
    assert [line.split(" is not")[0] for line in err.splitlines()] == [
        f"mbtrain: {group}._target_=my_data.{name}: my_data"
        for group, name in (("dataset", "Numbers"), ("model", "Net"), ("loss", "quartic"))
    ]
    assert "trust=[my_data]" in err and not (here / "a").exists()


@pytest.mark.parametrize("arguments", [["dataset=sly", "run_dir=a"], ["-m", "dataset=mine,sly"], ["-m", "dataset=sly"]])
def test_a_group_file_that_trusts_itself_is_refused(here: Path, say: Say, arguments: list[str]) -> None:
    sly = here / "conf" / "dataset" / "sly.yaml"
    sly.write_text("# @package _global_\ntrust: [my_data]\ndataset:\n  _target_: my_data.Numbers\n")
    code, err = say(*arguments)
    assert code == 2 and "is set by dataset/sly.yaml, which may be another's" in err
    assert sorted(one.name for one in here.iterdir()) == ["conf", "my_data.py"]


def test_ones_own_exception_in_a_data_set_is_a_traceback_and_exit_1(say: Say) -> None:
    code, err = say("trust=[my_data]", *OWN, "dataset.size=2000", "run_dir=a")
    assert code == 1
    assert "Traceback" in err and "my_data.py" in err and "my data set is broken" in err


def test_ones_own_exception_in_training_is_a_traceback_and_exit_1(here: Path, say: Say) -> None:
    code, err = say("trust=[my_data]", *OWN, "+model.breaks=true", "run_dir=a")
    assert code == 1
    assert "Traceback" in err and "my model is broken" in err
    assert '"failed"' in (here / "a" / "status.json").read_text()


def test_a_signal_before_the_first_iteration_ends_after_it_with_a_checkpoint(here: Path, say: Say) -> None:
    code, err = say("trust=[my_data]", *OWN, "+trainer.extra.callbacks=[{_target_: my_data.Killed}]", "run_dir=a")
    assert code == 128 + 15, err
    assert len(rows(here / "a")) == 1 and list((here / "a" / "checkpoints").glob("*.ckpt"))


def test_a_failed_job_does_not_end_the_sweep(here: Path, say: Say) -> None:
    code, err = say("-m", "trust=[my_data]", *OWN, "+model.breaks=true,false", "sweep_dir=s")
    assert code == 1 and "my model is broken" in err
    statuses = sorted(file.read_text() for file in (here / "s").glob("*/status.json"))
    assert sorted('"done"' in text for text in statuses) == [False, True]


def test_from_python_with_ones_own_folder(here: Path) -> None:
    own = [*OWN, *QUIET, "trust=[my_data]", "run_dir=a"]
    assert mbtrain.run(own, config_dir="conf")["iterations"] == 6


def test_options_of_a_loss_that_is_a_function_are_heeded(here: Path) -> None:
    own = [*OWN, *QUIET, "trust=[my_data]", "duration=1it"]
    mbtrain.run([*own, "run_dir=a"], config_dir="conf")
    mbtrain.run([*own, "run_dir=b", "+loss.scale=2"], config_dir="conf")
    assert rows(here / "b")[0]["train/loss"] == pytest.approx(2 * rows(here / "a")[0]["train/loss"])


def test_a_misspelt_option_of_a_loss_that_is_a_function_is_refused(here: Path) -> None:
    with pytest.raises(mbtrain.Refused, match="loss.scael=2: .*quartic takes no scael"):
        mbtrain.run([*OWN, *QUIET, "trust=[my_data]", "run_dir=a", "+loss.scael=2"], config_dir="conf")
    assert not (here / "a").exists()


@pytest.mark.parametrize("extra", ["profilr=simple", "profiler=nothing_such"])
def test_an_argument_that_lightning_refuses_leaves_no_folder(here: Path, extra: str) -> None:
    with pytest.raises(mbtrain.Refused, match=r"trainer.extra"):
        mbtrain.run(["run_dir=a", f"+trainer.extra.{extra}", *QUIET])
    assert not (here / "a").exists()


def test_a_run_is_loaded_with_trust_given_again(here: Path) -> None:
    mbtrain.run([*OWN, *QUIET, "trust=[my_data]", "run_dir=a"], config_dir="conf")
    with pytest.raises(mbtrain.Refused, match="my_data is not trusted"):
        mbtrain.load("a")
    assert mbtrain.load("a", trust=["my_data"]) is not None
