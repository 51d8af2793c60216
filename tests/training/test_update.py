"""The update: clipping, averaged weights, a float16 overflow that skips it."""

import weakref
from collections.abc import Callable
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from torch import nn

from mbtrain import assembly as assembly_module
from mbtrain.optim.clip import clipped, global_norm
from mbtrain.optim.ema import Ema
from mbtrain.optim.groups import parameter_groups
from mbtrain.training.module import MiniBatchModule
from mbtrain.training.update import Update


def parameter(*values: float) -> nn.Parameter:
    return nn.Parameter(torch.tensor(values, dtype=torch.float64))


def test_clipping_is_that_of_torch() -> None:
    weights = [parameter(1, 2), parameter(3)]
    gradient = [torch.tensor([3.0, 4.0], dtype=torch.float64), torch.tensor([12.0], dtype=torch.float64)]
    for max_norm in (1.0, 13.0, 100.0):
        for weight, one in zip(weights, gradient, strict=True):
            weight.grad = one.clone()
        norm = torch.nn.utils.clip_grad_norm_(weights, max_norm)
        mine = clipped(list(gradient), max_norm, global_norm(list(gradient)))
        assert float(norm) == float(global_norm(list(gradient))) == 13
        assert all(torch.equal(a, b.grad) for a, b in zip(mine, weights, strict=True))


def test_update_clips_before_the_step() -> None:
    weight = parameter(0, 0)
    update = Update([weight], torch.optim.SGD([weight], lr=9), clip_norm=1.0, ema=None)
    norm = update.set_gradient([torch.tensor([30.0, 40.0], dtype=torch.float64)])
    assert norm is not None and float(norm) == 50
    assert update.step(lr=1.0, num_samples=1)
    assert torch.allclose(weight, torch.tensor([-0.6, -0.8], dtype=torch.float64), rtol=1e-6)


@pytest.mark.parametrize("half_life", [10.0, 64.0])
def test_averaged_weights_follow_the_closed_form(half_life: float) -> None:
    weight = parameter(0)
    ema = Ema([weight], half_life=half_life)
    sizes, values, expected = [16, 16, 5], [1.0, 2.0, 7.0], 0.0
    for size, value in zip(sizes, values, strict=True):
        with torch.no_grad():
            weight.fill_(value)
        ema.update(size)
        decay = 0.5 ** (size / half_life)
        expected = decay * expected + (1 - decay) * value
    assert float(ema.average[0]) == pytest.approx(expected, rel=1e-14)


def test_half_of_the_old_weights_is_left_after_the_half_life_whatever_the_batch_size() -> None:
    for sizes in ([64], [8] * 8, [1] * 64):
        weight = parameter(1)
        ema = Ema([weight], half_life=64)
        with torch.no_grad():
            weight.zero_()
        for size in sizes:
            ema.update(size)
        assert float(ema.average[0]) == pytest.approx(0.5, rel=1e-13)


def test_averaged_weights_are_put_in_and_taken_out_bit_for_bit() -> None:
    weight = parameter(1, 2)
    ema = Ema([weight], half_life=1)
    with torch.no_grad():
        weight.add_(0.1)
    before, average = weight.clone(), ema.average[0].clone()
    with ema.in_place():
        assert torch.equal(weight, average)
    assert torch.equal(weight, before) and torch.equal(ema.average[0], average)


def scaled_update(scale: float) -> tuple[nn.Parameter, Update]:
    weight = nn.Parameter(torch.zeros(2))
    scaler = torch.amp.GradScaler("cpu", init_scale=scale)
    ema = Ema([weight], half_life=1)
    return weight, Update([weight], torch.optim.SGD([weight], lr=1), clip_norm=1.0, ema=ema, scaler=scaler)


def test_scaled_gradient_is_unscaled_before_it_is_clipped() -> None:
    weight, update = scaled_update(8.0)
    assert float(update.loss_scale) == 8
    update.set_gradient([torch.tensor([0.3, 0.4]) * 8])
    assert update.step(lr=1.0, num_samples=1)
    assert torch.allclose(weight, torch.tensor([-0.3, -0.4]))


def test_overflow_skips_the_update_and_says_so() -> None:
    weight, update = scaled_update(8.0)
    assert float(update.loss_scale) == 8
    update.set_gradient([torch.tensor([float("inf"), 0.0])])
    assert not update.step(lr=1.0, num_samples=1)
    assert torch.equal(weight, torch.zeros(2)) and torch.equal(update.ema.average[0], torch.zeros(2))
    assert float(update.loss_scale) == 4
    update.set_gradient([torch.tensor([0.3, 0.4]) * 4])
    assert update.step(lr=1.0, num_samples=1)


def test_norms_and_biases_are_spared_from_decay() -> None:
    model = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3), nn.Linear(3, 1, bias=False))
    assert len(parameter_groups(model, decays_norms=True)) == 1
    decayed, spared = parameter_groups(model, decays_norms=False)
    assert [id(one) for one in decayed["params"]] == [id(model[0].weight), id(model[2].weight)]
    assert {id(one) for one in spared["params"]} == {id(model[0].bias), id(model[1].weight), id(model[1].bias)}
    assert spared["weight_decay"] == 0 and "weight_decay" not in decayed


@pytest.mark.parametrize("decays_norms", [True, False])
@pytest.mark.parametrize("shown", [(0, 1, 2, 3, 4), (), (1, 3)])
def test_direct_and_wrapped_updates_are_bit_equal(decays_norms: bool, shown: tuple[int, ...]) -> None:
    weights = []
    for fused in (True, False):
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3), nn.Linear(3, 2)).double()
        optimizer = torch.optim.SGD(
            parameter_groups(model, decays_norms=decays_norms), lr=1, momentum=0.9, weight_decay=0.1, fused=True
        )
        update = Update(list(model.parameters()), optimizer, clip_norm=None, ema=None)
        if not fused:
            update._is_direct = False
        for step in range(5):
            generator = torch.Generator().manual_seed(step)
            gradient = [torch.randn(one.shape, generator=generator).double() for one in model.parameters()]
            update.release()
            update.set_gradient(gradient, is_shown=step in shown)
            assert not fused or all((one.grad is not None) == (step in shown) for one in model.parameters())
            assert update.step(lr=0.1, num_samples=4)
        weights.append([one.detach().clone() for one in model.parameters()])
    assert all(torch.equal(a, b) for a, b in zip(*weights, strict=True))


@pytest.mark.parametrize("fused", [True, False])
def test_gradient_that_is_put_in_the_place_of_the_one_shown_is_the_one_used(fused: bool) -> None:
    weight = nn.Parameter(torch.zeros(2))
    update = Update([weight], torch.optim.SGD([weight], lr=1, fused=fused), clip_norm=None, ema=None)
    for _ in range(2):
        update.release()
        update.set_gradient([torch.tensor([1.0, 2.0])], is_shown=True)
        weight.grad = torch.tensor([0.5, 0.25])
        update.step(lr=1.0, num_samples=1)
    assert weight.tolist() == [-1.0, -0.5]


@pytest.mark.parametrize("callbacks", [(), (pl.Callback(),)], ids=["alone", "shown"])
def test_gradient_is_let_go_of_before_the_next_one_is_made(
    train: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, callbacks: tuple[pl.Callback, ...]
) -> None:
    original, made, alive = MiniBatchModule._passes, list[Any](), list[int]()

    def passes(self: MiniBatchModule, mini_batch: Any) -> Any:
        alive.append(sum(one() is not None for one in made))
        found = original(self, mini_batch)
        made[:] = [weakref.ref(one) for one in found.result.gradient if one is not None]
        return found

    monkeypatch.setattr(MiniBatchModule, "_passes", passes)
    monkeypatch.setattr(assembly_module, "callbacks_of", lambda config: callbacks)
    train("duration=5it")
    assert alive == [0] * 5 and len(made) == 4
