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


def command(site: Path, folder: Path, name: str, *arguments: str) -> "subprocess.CompletedProcess[str]":
    environment = os.environ | {"PYTHONPATH": str(site)}
    return subprocess.run(
        [sys.executable, str(site / "bin" / name), *arguments],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.slow
def test_wheel_trains_the_user_s_own_things_and_tells_of_it(site: Path, tmp_path: Path) -> None:
    (tmp_path / "my_code.py").write_text(MY_CODE)
    for name, text in CHOICES.items():
        (tmp_path / "conf" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "conf" / name).write_text(text)
    own = ["--config-dir", "conf", "dataset=mine", "model=mine", "loss=mine", *QUIET]
    refused = command(site, tmp_path, "mbtrain", *own)
    assert refused.returncode == 2 and "trust=[my_code]" in refused.stderr and not (tmp_path / "runs").exists()
    done = command(site, tmp_path, "mbtrain", *own, "trust=[my_code]", "duration=5ep")
    assert done.returncode == 0, done.stderr
    (run,) = (tmp_path / "runs").iterdir()
    assert json.loads((run / "result.json").read_text())["test/accuracy"] > 0.95
    told = command(site, tmp_path, "mbtrain-report", str(run))
    assert told.returncode == 0, told.stderr
    assert "<svg" in (run / "report.html").read_text()


@pytest.mark.slow
def test_wheel_holds_every_choice(site: Path) -> None:
    shipped = {path.relative_to(site / "mbtrain" / "conf") for path in (site / "mbtrain" / "conf").rglob("*.yaml")}
    assert shipped == {path.relative_to(REPOSITORY / "conf") for path in (REPOSITORY / "conf").rglob("*.yaml")}
