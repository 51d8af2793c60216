"""Fixtures that compose the real config and train with it, in float64 and without trackers."""

import json
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch

import mbtrain
from tests import composing
from tests.forked import Forked
from tests.memory import memory as memory  # a fixture

torch.set_num_threads(1)
QUIET = ["tracker=none", "trainer.threads=1", "trainer.accelerator=cpu", "trainer.progress=false"]


@pytest.fixture(scope="session", autouse=True)
def composes_quickly() -> Iterator[None]:
    """What is tested in a run, most often, is not its composition."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("mbtrain.config.compose.composed", composing.composed)
        patch.setattr("hydra._internal.config_repository.ConfigRepository.load_config", composing.load_config)
        yield


@pytest.fixture(scope="session")
def data_root() -> Path:
    """Real data sets beside the checkout, or where MBTRAIN_DATA says; the test is skipped where there are none."""
    root = Path(os.environ.get("MBTRAIN_DATA", Path(__file__).parents[2] / "shared" / "data"))
    if not root.is_dir():
        pytest.skip("no real data sets: set MBTRAIN_DATA")
    return root


@pytest.fixture
def train(tmp_path: Path) -> Callable[..., Any]:
    """Train with overrides; each call in a folder of its own unless run_dir is among them."""
    count = 0

    def run(*overrides: str, **kwargs: Any) -> Any:
        nonlocal count
        count += 1
        own = [] if any(one.startswith("run_dir=") for one in overrides) else [f"run_dir={tmp_path}/run{count}"]
        return mbtrain.run([*QUIET, *own, *overrides], **kwargs)

    return run


@pytest.fixture(scope="module")
def train_once(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Any]:
    """Train with overrides; what has run already is not run again: for the run that others are held against."""

    @cache
    def run(*overrides: str) -> Any:
        return mbtrain.run([*QUIET, *overrides, f"run_dir={tmp_path_factory.mktemp('once') / 'run'}"])

    return run


@pytest.fixture
def forked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Forked]]:
    """Start a function that gives an exit code in a forked process; what is left of it is killed at the end."""
    folder, processes = tmp_path_factory.mktemp("said"), []

    def start(act: Callable[[], int], **environ: str) -> Forked:
        processes.append(Forked(act, folder / f"{len(processes)}.txt", environ))
        return processes[-1]

    yield start
    for process in processes:
        with suppress(ProcessLookupError, ChildProcessError):
            process.kill()


def rows(run_dir: Path, name: str = "iterations") -> list[dict[str, Any]]:
    """The rows of a run's log."""
    return [json.loads(line) for line in (run_dir / f"{name}.jsonl").read_text().splitlines()]


def without_times(table: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Rows without what no two runs share."""
    return [{key: value for key, value in row.items() if not key.startswith("time/")} for row in table]


def final_weights(run_dir: Path) -> dict[str, torch.Tensor]:
    """The weights that a finished run left."""
    return torch.load(run_dir / "checkpoints" / "final.ckpt", weights_only=True)["weights"]


def relative_difference(a: torch.Tensor, b: torch.Tensor) -> float:
    """Norm of the difference, over the norm."""
    return float((a - b).norm() / b.norm().clamp(min=1e-300))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip what needs a GPU or SLURM where there is none."""
    needs = {"gpu": (torch.cuda.is_available, "a CUDA device"), "slurm": (slurm_answers, "scripts/slurm_here.sh")}
    for name, (is_there, what) in needs.items():
        marked = [item for item in items if item.get_closest_marker(name)]
        if marked and not is_there():
            for item in marked:
                item.add_marker(pytest.mark.skip(reason=f"needs {what}"))


def slurm_answers() -> bool:
    """Whether jobs can be submitted on this machine."""
    if shutil.which("sbatch") is None:
        return False
    try:
        return subprocess.run(["sinfo"], capture_output=True, timeout=5).returncode == 0
    except subprocess.TimeoutExpired:
        return False
