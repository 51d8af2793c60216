"""What is timed: networks, batch sizes and made-up data of Fashion-MNIST's shape."""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from mbtrain.models.cnn import Cnn

NUM_CLASSES, LR, MOMENTUM = 10, 0.05, 0.9


@dataclass(frozen=True)
class Network:
    """One architecture: as one writes it by hand, and as the overrides that name it in mbtrain."""

    input_shape: tuple[int, ...]
    make: Callable[[], nn.Module]
    overrides: tuple[str, ...]


def _mlp(width: int, hidden: int) -> nn.Module:
    return nn.Sequential(nn.Linear(width, hidden), nn.ReLU(), nn.Linear(hidden, NUM_CLASSES))


def _cnn() -> nn.Module:
    return Cnn(input_shape=(1, 28, 28), num_outputs=NUM_CLASSES, channels=(32, 64))


NETWORKS = {
    "tiny": Network((64,), lambda: _mlp(64, 64), ("model=mlp", "model.hidden=[64]")),
    "mlp": Network((784,), lambda: _mlp(784, 256), ("model=mlp", "model.hidden=[256]")),
    "large": Network(
        (784,),
        lambda: nn.Sequential(nn.Linear(784, 2900), nn.ReLU(), nn.Linear(2900, 2900), nn.ReLU(), nn.Linear(2900, 10)),
        ("model=mlp", "model.hidden=[2900,2900]"),
    ),
    "cnn": Network((1, 28, 28), _cnn, ("model=cnn", "model.channels=[32,64]")),
}


@dataclass(frozen=True)
class Case:
    """A network at a batch size; `epochs` are timed at once, so that a span is long enough to be compared."""

    name: str
    network: str
    batch_size: int
    micro_size: int
    epochs: int
    num_samples: int = 20_000

    @property
    def iterations_per_epoch(self) -> int:
        """Iterations of one pass, a ragged tail included."""
        return math.ceil(self.num_samples / self.batch_size)

    @property
    def iterations(self) -> int:
        """Iterations that are timed at once."""
        return self.epochs * self.iterations_per_epoch

    @property
    def accumulates(self) -> bool:
        """Whether a mini-batch is several micro-batches."""
        return self.micro_size < self.batch_size

    def make_model(self) -> nn.Module:
        """The network with the same first weights at each call."""
        torch.manual_seed(0)
        return NETWORKS[self.network].make()

    def make_data(self) -> tuple[Tensor, Tensor]:
        """Normal inputs and uniform classes, the same at each call."""
        generator = torch.Generator().manual_seed(0)
        x = torch.randn(self.num_samples, *NETWORKS[self.network].input_shape, generator=generator)
        return x, torch.randint(NUM_CLASSES, (self.num_samples,), generator=generator)

    def keep_data(self, folder: Path) -> Path:
        """The same data as the file that `dataset=arrays` reads."""
        folder.mkdir(exist_ok=True)
        path = folder / f"{self.network}-{self.num_samples}.npz"
        if not path.exists():
            x, y = self.make_data()
            np.savez(path, x=x.numpy(), y=y.numpy())
        return path

    def shortened(self, num_samples: int) -> "Case":
        """The case on fewer samples, one epoch at a time."""
        return replace(self, num_samples=num_samples, epochs=1)


CASES = {
    case.name: case
    for case in (
        Case("tiny32", "tiny", 32, 32, epochs=4),
        Case("mlp32", "mlp", 32, 32, epochs=2),
        Case("mlp256", "mlp", 256, 256, epochs=4),
        Case("cnn32", "cnn", 32, 32, epochs=1, num_samples=4_800),
        Case("mlp8x32", "mlp", 256, 32, epochs=4),
    )
}


def thread_cases() -> list[Case]:
    """From the least work in a micro-batch to the most."""
    return [
        *(CASES[name] for name in ("mlp32", "mlp256", "cnn32")),
        Case("cnn256", "cnn", 256, 256, epochs=1, num_samples=4_800),
    ]


def chosen(names: str) -> list[Case]:
    """The cases that a list such as `tiny,mlp32` names; a network's name stands for all of its cases."""
    found = []
    for name in names.split(","):
        mine = [case for case in CASES.values() if name in (case.name, case.network)]
        if not mine:
            raise SystemExit(f"--cases {name}: no such case; choose from {', '.join(CASES)}")
        found += [case for case in mine if case not in found]
    return found
