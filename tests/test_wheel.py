"""The wheel, installed elsewhere: any folder, the user's own data set, model, loss and config folder."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[1]
QUIET = ["tracker=none", "trainer.accelerator=cpu", "duration=1ep"]

MY_CODE = '''
import torch
from torch import nn
from torch.utils.data import Dataset


class Blobs(Dataset):
    """Two clouds of points."""

    num_classes = 2

    def __init__(self, size: int) -> None:
        self.size = size

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, index: int):
        generator = torch.Generator().manual_seed(index)
        target = index % 2
        return torch.randn(3, generator=generator) + 4 * target, target


class Net(nn.Module):
    def __init__(self, input_shape, num_outputs: int, width: int = 8) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(*input_shape, width), nn.ReLU(), nn.Linear(width, num_outputs))

    def forward(self, x):
        return self.layers(x)


def focal(output, target):
    picked = output.log_softmax(1).gather(1, target[:, None])[:, 0]
    return -((1 - picked.exp()) ** 2) * picked
'''

CHOICES = {
    "dataset/mine.yaml": "_target_: my_code.Blobs\nsize: 300\ntest_fraction: 0.2\nworkers: 0\n",
    "model/mine.yaml": "_target_: my_code.Net\nwidth: 16\n",
    "loss/mine.yaml": "_target_: my_code.focal\n",
}


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the built wheel in it and nothing else; the packages it needs are the tests' own."""
    folder = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder), str(REPOSITORY)]
    subprocess.run(build, check=True, capture_output=True)
    (wheel,) = folder.glob("*.whl")
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(folder / "site")]
    subprocess.run([*install, str(wheel)], check=True, capture_output=True)
    return folder / "site"


def said(site: Path, folder: Path, *words: str) -> tuple[int, str]:
    """Exit code and output of a Python that finds the wheel before anything else of ours."""
    environment = os.environ | {"PYTHONPATH": str(site), "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, *words], cwd=folder, env=environment, capture_output=True, text=True)
    return done.returncode, done.stdout + done.stderr


# Several commands in one process, each in its folder: imports take longer than all the rest. As in a console script,
# the working folder is on the path only where main() puts it there.
COMMANDS = """
import json, os, runpy, sys
for folder, module, *words in json.loads(sys.argv[1]):
    os.chdir(folder)
    sys.argv = [module, *words]
    try:
        runpy.run_module(module, run_name="__main__", alter_sys=True)
    except SystemExit as end:
        print(f"{module} ended with {end.code}", flush=True)
"""


@pytest.mark.slow
def test_wheel_trains_digits_and_the_user_s_own_things_and_tells_of_them(site: Path, tmp_path: Path) -> None:
    empty, mine = tmp_path / "empty", tmp_path / "mine"
    empty.mkdir()
    for name, text in {"my_code.py": MY_CODE, **{f"conf/{name}": text for name, text in CHOICES.items()}}.items():
        (mine / name).parent.mkdir(parents=True, exist_ok=True)
        (mine / name).write_text(text)
    own = ["--config-dir", "conf", "dataset=mine", "model=mine", "loss=mine", *QUIET, "run_dir=own"]
    commands = [
        [str(empty), "mbtrain", *QUIET],
        [str(mine), "mbtrain", *own, "trust=[my_code]", "duration=5ep"],
        [str(mine), "mbtrain.analysis", "own"],
    ]
    told = said(site, empty, "-P", "-c", COMMANDS, json.dumps(commands))[1]
    assert [line for line in told.splitlines() if " ended with " in line] == [
        "mbtrain ended with 0",
        "mbtrain ended with 0",
        "mbtrain.analysis ended with 0",
    ], told
    (run,) = (empty / "runs").iterdir()
    assert json.loads((run / "result.json").read_text())["test/accuracy"] > 0.5
    assert json.loads((mine / "own" / "result.json").read_text())["test/accuracy"] > 0.95
    assert "<svg" in (mine / "own" / "report.html").read_text()


@pytest.mark.slow
def test_wheel_s_commands_start_and_refuse(site: Path, tmp_path: Path) -> None:
    code, told = said(site, tmp_path, str(site / "bin" / "mbtrain"), "model._target_=my_code.Net")
    assert code == 2 and "trust=[my_code]" in told and not (tmp_path / "runs").exists()
    code, told = said(site, tmp_path, str(site / "bin" / "mbtrain-report"), "--help")
    assert code == 0 and "mbtrain-report" in told
    code, told = said(site, tmp_path, "-m", "mbtrain", "--cfg", "job")
    assert code == 0 and "batch_norm:" in told


@pytest.mark.slow
def test_wheel_holds_every_choice(site: Path) -> None:
    shipped = {path.relative_to(site / "mbtrain" / "conf") for path in (site / "mbtrain" / "conf").rglob("*.yaml")}
    assert shipped == {path.relative_to(REPOSITORY / "conf") for path in (REPOSITORY / "conf").rglob("*.yaml")}
