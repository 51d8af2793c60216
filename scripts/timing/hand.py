"""The loops one writes by hand: (a) with torch.optim, (a') with the kernels called directly. Nothing is logged.

Tensors in memory, a random permutation an epoch, `index_select`, cross entropy, SGD with momentum or AdamW, fused.
"""

from collections.abc import Callable
from itertools import count, islice

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

from timing.cases import LR, MOMENTUM, Case
from timing.span import DEVICE, Note, settle

WARM_UP = 50

# Trains on the samples of an order, mini-batch by mini-batch.
Train = Callable[[Tensor], None]


def with_torch_optim(case: Case, model: nn.Module, x: Tensor, y: Tensor) -> Train:
    """(a): zero_grad, backward, torch.optim."""
    optimizer = case.make_optimizer(model)

    def train(order: Tensor) -> None:
        for indices in order.split(case.batch_size):
            loss = F.cross_entropy(model(x.index_select(0, indices)), y.index_select(0, indices))
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()

    return train


def with_compiled_model(case: Case, model: nn.Module, x: Tensor, y: Tensor) -> Train:
    """(a) with `torch.compile(model)`: what one adds by hand; forward and backward are compiled, the update is not."""
    compiled = torch.compile(model, dynamic=False)
    train = by_hand(case, compiled, x, y)  # pyright: ignore[reportArgumentType]
    train(torch.arange(case.num_samples, device=DEVICE))
    return train


def with_data_loader(case: Case, model: nn.Module, x: Tensor, y: Tensor) -> Train:
    """(a) fed by a DataLoader without workers, which makes its own order; the order given says how many samples."""
    optimizer = case.make_optimizer(model)
    loader = DataLoader(TensorDataset(x.cpu(), y.cpu()), batch_size=case.batch_size, shuffle=True)

    def train(order: Tensor) -> None:
        for inputs, target in islice(loader, -(-len(order) // case.batch_size)):
            optimizer.zero_grad(set_to_none=True)
            for part, wanted in zip(inputs.split(case.micro_size), target.split(case.micro_size), strict=True):
                loss = F.cross_entropy(model(part.to(DEVICE)), wanted.to(DEVICE), reduction="sum") / len(inputs)
                loss.backward()
            optimizer.step()

    return train


def with_fabric(case: Case, model: nn.Module, x: Tensor, y: Tensor) -> Train:
    """(a) under Lightning Fabric, its data in memory."""
    fabric = Fabric(accelerator="gpu" if DEVICE.type == "cuda" else "cpu", devices=1)
    model, optimizer = fabric.setup(model, case.make_optimizer(model))

    def train(order: Tensor) -> None:
        for indices in order.split(case.batch_size):
            loss = F.cross_entropy(model(x.index_select(0, indices)), y.index_select(0, indices))
            optimizer.zero_grad(set_to_none=True)
            fabric.backward(loss)
            optimizer.step()

    return train


def with_accumulation(case: Case, model: nn.Module, x: Tensor, y: Tensor) -> Train:
    """(a) over micro-batches: sums of losses divided by the size of the mini-batch, one update."""
    optimizer = case.make_optimizer(model)

    def train(order: Tensor) -> None:
        for indices in order.split(case.batch_size):
            optimizer.zero_grad(set_to_none=True)
            for part in indices.split(case.micro_size):
                output = model(x.index_select(0, part))
                loss = F.cross_entropy(output, y.index_select(0, part), reduction="sum") / len(indices)
                loss.backward()
            optimizer.step()

    return train


def by_hand(case: Case, model: nn.Module, x: Tensor, y: Tensor) -> Train:
    """(a) of this case."""
    make = with_torch_optim if case.num_micro_batches == 1 else with_accumulation
    return make(case, model, x, y)


def with_direct_kernel(case: Case, model: nn.Module, x: Tensor, y: Tensor) -> Train:
    """(a'): torch.autograd.grad and the fused kernel, without the wrappers around them."""
    parameters: list[Tensor] = list(model.parameters())
    momenta = [torch.empty_like(one) for one in parameters]
    is_first = True

    def train(order: Tensor) -> None:
        nonlocal is_first
        for indices in order.split(case.batch_size):
            loss = F.cross_entropy(model(x.index_select(0, indices)), y.index_select(0, indices))
            gradient = torch.autograd.grad(loss, parameters)
            with torch.no_grad():
                torch._fused_sgd_(  # pyright: ignore[reportPrivateImportUsage]
                    parameters,
                    gradient,
                    momenta,
                    weight_decay=0.0,
                    momentum=MOMENTUM,
                    lr=LR,
                    dampening=0.0,
                    nesterov=False,
                    maximize=False,
                    is_first_step=is_first,
                )
            is_first = False

    return train


class HandLoop:
    """A peer: one of the loops above."""

    def __init__(self, case: Case, make: Callable[[Case, nn.Module, Tensor, Tensor], Train]) -> None:
        self._case, self._make = case, make

    def __call__(self, note: Note) -> None:
        """Train without end."""
        case = self._case
        _, train = self.built()
        settle()
        train(self._order()[: WARM_UP * case.batch_size])
        for epoch in count():
            note(epoch * case.iterations_per_epoch)
            train(self._order())

    def built(self) -> tuple[nn.Module, Train]:
        """The model with its first weights, and what trains it."""
        x, y = (values.to(DEVICE) for values in self._case.make_data())
        model = self._case.make_model().to(DEVICE)
        return model, self._make(self._case, model, x, y)

    def _order(self) -> Tensor:
        return torch.randperm(self._case.num_samples, device=DEVICE)


def is_bit_equal(case: Case, *, iterations: int = 100) -> bool:
    """Whether (a) and (a') leave the same weights, bit for bit, after the same iterations."""
    order = torch.arange(iterations * case.batch_size, device=DEVICE) % case.num_samples
    models = []
    for make in (with_torch_optim, with_direct_kernel):
        model, train = HandLoop(case, make).built()
        train(order)
        models.append(model)
    return all(torch.equal(one, other) for one, other in zip(*(model.parameters() for model in models), strict=True))
