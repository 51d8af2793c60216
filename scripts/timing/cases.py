"""What is timed: networks, batch sizes and made-up data of Fashion-MNIST's shape."""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from mbtrain.models.cnn import Cnn
from mbtrain.models.resnet import ResNet

NUM_CLASSES, LR, MOMENTUM, ADAMW_LR = 10, 0.05, 0.9, 1e-3
DEPTH = 50


@dataclass(frozen=True)
class Network:
    """One architecture: as one writes it by hand, and as the overrides that name it in mbtrain."""

    input_shape: tuple[int, ...]
    make: Callable[[], nn.Module]
    overrides: tuple[str, ...]


def _mlp(width: int, hidden: int) -> nn.Module:
    return nn.Sequential(nn.Linear(width, hidden), nn.ReLU(), nn.Linear(hidden, NUM_CLASSES))


def _deep() -> nn.Module:
    layers = [layer for _ in range(DEPTH) for layer in (nn.Linear(64, 64), nn.ReLU())]
    return nn.Sequential(*layers, nn.Linear(64, NUM_CLASSES))


def _cnn() -> nn.Module:
    return Cnn(input_shape=(1, 28, 28), num_outputs=NUM_CLASSES, channels=(32, 64))


def _resnet() -> nn.Module:
    return ResNet(input_shape=(3, 32, 32), num_outputs=NUM_CLASSES, depth=8)


NETWORKS = {
    "tiny": Network((64,), lambda: _mlp(64, 64), ("model=mlp", "model.hidden=[64]")),
    "mlp": Network((784,), lambda: _mlp(784, 256), ("model=mlp", "model.hidden=[256]")),
    "large": Network(
        (784,),
        lambda: nn.Sequential(nn.Linear(784, 2900), nn.ReLU(), nn.Linear(2900, 2900), nn.ReLU(), nn.Linear(2900, 10)),
        ("model=mlp", "model.hidden=[2900,2900]"),
    ),
    "deep": Network((64,), _deep, ("model=mlp", f"model.hidden={[64] * DEPTH}")),
    "cnn": Network((1, 28, 28), _cnn, ("model=cnn", "model.channels=[32,64]")),
    "resnet": Network((3, 32, 32), _resnet, ("model=resnet", "model.depth=8")),
}


@dataclass(frozen=True)
class Case:
    """A network at a batch size, cut into micro-batches of `micro_size`."""

    name: str
    network: str
    batch_size: int
    micro_size: int
    num_samples: int = 20_000
    # Samples that share batch-norm statistics; the whole micro-batch where there are none.
    group_size: int | None = None
    optimizer: str = "sgd"

    @property
    def iterations_per_epoch(self) -> int:
        """Iterations of one pass, a ragged tail included."""
        return math.ceil(self.num_samples / self.batch_size)

    @property
    def has_images(self) -> bool:
        """Whether its samples have channels, height and width."""
        return len(NETWORKS[self.network].input_shape) == 3

    @property
    def num_micro_batches(self) -> int:
        """How many passes make an update."""
        return self.batch_size // self.micro_size

    def make_model(self) -> nn.Module:
        """The network with the same first weights at each call."""
        torch.manual_seed(0)
        return NETWORKS[self.network].make()

    def make_optimizer(self, model: nn.Module) -> torch.optim.Optimizer:
        """torch.optim's own, fused: what one takes by hand."""
        if self.optimizer == "adamw":
            return torch.optim.AdamW(model.parameters(), ADAMW_LR, fused=True)
        return torch.optim.SGD(model.parameters(), LR, MOMENTUM, fused=True)

    @property
    def overrides(self) -> list[str]:
        """The case in mbtrain's words, its data apart."""
        chosen = [*NETWORKS[self.network].overrides, f"batch.size={self.batch_size}"]
        if self.num_micro_batches > 1:
            chosen.append(f"batch.micro_size={self.micro_size}")
        if self.group_size is not None:
            chosen.append(f"batch_norm.group_size={self.group_size}")
        if self.optimizer == "adamw":
            return [*chosen, "optimizer=adamw", f"optimizer.lr={ADAMW_LR}"]
        return [*chosen, f"optimizer.lr={LR}", f"optimizer.momentum={MOMENTUM}", "optimizer.nesterov=false"]

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
        """The case on fewer samples."""
        return replace(self, num_samples=min(num_samples, self.num_samples))


IMAGES = 1_280
CASES = {
    case.name: case
    for case in (
        Case("tiny32", "tiny", 32, 32),
        Case("mlp32", "mlp", 32, 32),
        Case("mlp256", "mlp", 256, 256),
        Case("cnn32", "cnn", 32, 32, num_samples=IMAGES),
        Case("mlp8x32", "mlp", 256, 32),
        Case("tiny2x16", "tiny", 32, 16),
        Case("tiny8", "tiny", 8, 8, num_samples=5_000),
        Case("tiny1024", "tiny", 1024, 1024, num_samples=102_400),
        Case("mlp1024", "mlp", 1024, 1024),
        Case("tiny32-adamw", "tiny", 32, 32, optimizer="adamw"),
        Case("mlp32-adamw", "mlp", 32, 32, optimizer="adamw"),
        Case("cnn8x32", "cnn", 256, 32, num_samples=IMAGES, group_size=32),
        Case("cnn256", "cnn", 256, 256, num_samples=IMAGES),
        Case("cnn256-groups", "cnn", 256, 256, num_samples=IMAGES, group_size=32),
        Case("resnet32", "resnet", 32, 32, num_samples=640),
    )
}


def thread_cases() -> list[Case]:
    """From the least work in a micro-batch to the most."""
    return [CASES[name] for name in ("tiny32", "mlp32", "mlp256", "mlp1024", "cnn32", "cnn256")]


def chosen(names: str) -> list[Case]:
    """The cases that a list such as `tiny,mlp32` names; a network's name stands for all of its cases."""
    found = []
    for name in names.split(","):
        mine = [case for case in CASES.values() if name in (case.name, case.network)]
        if not mine:
            raise SystemExit(f"--cases {name}: no such case; choose from {', '.join(CASES)}")
        found += [case for case in mine if case not in found]
    return found
