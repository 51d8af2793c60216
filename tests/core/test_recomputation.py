"""Activation checkpointing: what it keeps, what it must not touch, what it chooses."""

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks
from torch.func import functional_call
from torch.nn import functional as F

from mbtrain.core.recomputation import recompute_blocks
from mbtrain.models.cnn import Cnn
from mbtrain.models.gpt import Gpt
from mbtrain.models.mlp import Mlp
from mbtrain.models.resnet import ResNet
from mbtrain.norm.convert import convert
from mbtrain.norm.groups import BnGroups

IMAGES: dict[str, Any] = {"input_shape": (1, 16, 16), "num_outputs": 4}


class Counting(nn.Module):
    """A layer with a state of its own that every training pass moves, as spectral norm's."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("passes", torch.zeros((), dtype=torch.float64))

    def forward(self, x: Tensor) -> Tensor:
        self.passes += 1
        return x * (1 + self.passes)


class Named(nn.Module):
    """A model of a user's: blocks as attributes, a plain layer before and after."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, 3, 3)
        self.first = Residual(nn.Conv2d(3, 3, 3, padding=1), nn.BatchNorm2d(3), Counting(), nn.Dropout(0.3))
        self.later = nn.ModuleList([Residual(nn.Conv2d(3, 3, 3, padding=1), nn.BatchNorm2d(3)) for _ in range(2)])
        self.head = nn.Linear(3, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(self.stem(x))
        for block in self.later:
            x = block(x)
        return self.head(x.mean((2, 3)))


class Residual(nn.Sequential):
    """A Sequential that is no chain."""

    def forward(self, input: Tensor) -> Tensor:
        return F.relu(input + super().forward(input))


MODELS: dict[str, tuple[Callable[[], nn.Module], int]] = {
    "cnn": (lambda: Cnn(**IMAGES, channels=(3, 4), dropout=0.2), 3),
    "resnet": (lambda: ResNet(**IMAGES, depth=8, width=4, zero_init_last=False), 4),
    "mlp": (lambda: Mlp(**IMAGES, hidden=(8, 8), dropout=0.2), 3),
    "named": (Named, 3),
    "wrapped": (lambda: nn.Sequential(Cnn(**IMAGES, channels=(3, 4))), 3),
}


def pair_of(name: str, kind: str = "batch") -> list[tuple[nn.Module, BnGroups]]:
    """The same model twice, the second one's blocks recomputed."""
    torch.manual_seed(0)
    groups = BnGroups(limits=lambda samples_seen: (3.0, 5.0))
    plain = convert(MODELS[name][0](), kind, groups).double()
    other, others = copy.deepcopy((plain, groups))
    assert recompute_blocks(other) == MODELS[name][1]
    return [(plain, groups), (other, others)]


def train_twice(model: nn.Module, groups: BnGroups) -> list[Tensor]:
    """Two iterations of two micro-batches with BN groups: gradients, weights, buffers."""
    x = torch.randn(2, 8, 1, 16, 16, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    found: list[Tensor] = []
    parameters = list(model.parameters())
    torch.manual_seed(2)
    for iteration in range(2):
        groups.begin(16 * iteration)
        for part in x:
            groups.sizes = (4, 4)
            gradient = torch.autograd.grad(model(part).square().sum(), parameters)
            found += gradient
            with torch.no_grad():
                for one, slope in zip(parameters, gradient, strict=True):
                    one -= 1e-3 * slope
    return found + list(model.state_dict().values())


@pytest.mark.parametrize("kind", ["batch", "renorm"])
@pytest.mark.parametrize("name", MODELS)
def test_gradients_statistics_and_masks_are_the_same_bit_for_bit(name: str, kind: str) -> None:
    plain, recomputed = (train_twice(model, groups) for model, groups in pair_of(name, kind))
    for one, other in zip(plain, recomputed, strict=True):
        assert torch.equal(one, other)


def test_without_what_a_block_met_batch_norm_would_count_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mbtrain.core.recomputation._put", lambda tensors: None)
    plain, recomputed = (train_twice(model, groups) for model, groups in pair_of("resnet"))
    assert not all(torch.equal(one, other) for one, other in zip(plain, recomputed, strict=True))


def saved_bytes(model: nn.Module, x: Tensor) -> int:
    """What a forward pass keeps for its backward pass, each memory once."""
    kept: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        kept[tensor.data_ptr()] = tensor.numel() * tensor.element_size()
        return tensor

    with saved_tensors_hooks(keep, lambda tensor: tensor):
        output = model(x)
    del output
    return sum(kept.values())


@pytest.mark.parametrize("name", ["cnn", "resnet"])
def test_less_is_kept_for_the_backward_pass(name: str) -> None:
    (plain, _), (recomputed, _) = pair_of(name)
    x = torch.randn(64, 1, 16, 16, dtype=torch.float64)
    assert saved_bytes(recomputed, x) < 0.5 * saved_bytes(plain, x)


def test_a_transformer_is_recomputed_block_by_block() -> None:
    model = Gpt(input_shape=(6,), num_outputs=9, width=8, depth=3, heads=2)
    other = copy.deepcopy(model)
    assert recompute_blocks(other) == 3
    ids = torch.randint(9, (2, 6))
    gradients = [torch.autograd.grad(one(ids).square().sum(), list(one.parameters())) for one in (model, other)]
    assert all(torch.equal(a, b) for a, b in zip(*gradients, strict=True))


def test_weights_that_were_lent_for_a_forward_pass_are_met_again_in_the_backward_pass() -> None:
    (plain, _), (recomputed, _) = pair_of("resnet")
    lent = {name: (one * 1.5).detach().requires_grad_() for name, one in plain.named_parameters()}
    x = torch.randn(4, 1, 16, 16, dtype=torch.float64)
    gradients = []
    for model in (plain, recomputed):
        loss = functional_call(model, lent, (x,)).square().sum()
        gradients.append(torch.autograd.grad(loss, list(lent.values())))
    assert all(torch.equal(a, b) for a, b in zip(*gradients, strict=True))


def test_a_graph_may_be_walked_twice_and_differentiated_again() -> None:
    results = []
    for model, _ in pair_of("cnn"):
        model.eval()
        weights = list(model.parameters())
        loss = model(torch.randn(4, 1, 16, 16, dtype=torch.float64, generator=torch.Generator().manual_seed(1)))
        loss = loss.square().sum()
        first = torch.autograd.grad(loss, weights, create_graph=True)
        again = torch.autograd.grad(loss, weights, retain_graph=True)
        second = torch.autograd.grad(sum(one.square().sum() for one in first), weights)  # pyright: ignore
        results.append([*first, *again, *second])
    assert all(torch.allclose(a, b, rtol=1e-12) for a, b in zip(*results, strict=True))


def test_torch_func_works_as_without() -> None:
    gradients = []
    for model, _ in pair_of("cnn"):
        model.eval()
        weights = {name: one.detach() for name, one in model.named_parameters()}
        x = torch.randn(4, 1, 16, 16, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
        slope = torch.func.grad(lambda given, m=model, x=x: functional_call(m, given, (x,)).square().sum())(weights)
        gradients.append(list(slope.values()))
    assert all(torch.equal(a, b) for a, b in zip(*gradients, strict=True))


def test_evaluation_and_the_state_dict_are_as_without() -> None:
    (plain, _), (recomputed, _) = pair_of("named")
    assert list(plain.state_dict()) == list(recomputed.state_dict())
    x = torch.randn(4, 1, 16, 16, dtype=torch.float64)
    with torch.no_grad():
        assert torch.equal(plain.eval()(x), recomputed.eval()(x))


def test_a_model_without_blocks_has_none() -> None:
    assert recompute_blocks(nn.Linear(3, 3)) == 0
