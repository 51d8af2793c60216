"""Precise statistics against those of all samples at once, and the training that must not notice."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from mbtrain.assembly import assemble
from mbtrain.norm.convert import convert
from mbtrain.norm.groups import BnGroups
from mbtrain.norm.recalibration import Pool, Recalibration
from tests.composing import composed
from tests.conftest import QUIET, final_weights, rows, without_times
from tests.training.test_resume import check_same_run, train_with_kills

SIZES = (5, 5, 1, 7)
SMALL = ["model=cnn", "model.channels=[4,8]", "batch.size=64", "duration=2ep"]
PRECISE = [*SMALL, "batch_norm.recalibrate=before_eval", "batch_norm.recalibrate_samples=300"]


def values(dims: int = 2) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    # A mean far from 0 beside a small spread: sums of squares would lose it.
    return 1e4 + torch.randn(sum(SIZES), 3, *[4] * dims, dtype=torch.float64, generator=generator)


@pytest.mark.parametrize("dims", [0, 2])
def test_pooled_mean_and_variance_are_those_of_all_samples_at_once(dims: int) -> None:
    x, pool = values(dims), Pool()
    for part in x.split(list(SIZES)):
        pool.add(part)
    channels = x.transpose(0, 1).flatten(1)
    assert torch.allclose(pool.mean, channels.mean(1), rtol=1e-14)
    assert torch.allclose(pool.variance, channels.var(1), rtol=1e-12)


def model_of(kind: str = "batch") -> tuple[nn.Module, BnGroups]:
    torch.manual_seed(0)
    groups = BnGroups(limits=lambda samples_seen: (3.0, 5.0))
    net = nn.Sequential(nn.BatchNorm2d(3), nn.Conv2d(3, 4, 3), nn.Dropout(0.5), nn.BatchNorm2d(4)).double()
    return convert(net, kind, groups), groups


@pytest.mark.parametrize("kind", ["batch", "renorm"])
def test_statistics_of_the_first_layer_are_exact_and_everything_comes_back_bit_for_bit(kind: str) -> None:
    model, groups = model_of(kind)
    x = values()
    recalibration = Recalibration(model, groups, lambda: ((part, (len(part),)) for part in x.split([6, 12])))
    before, state = {name: one.clone() for name, one in model.state_dict().items()}, torch.get_rng_state()
    model.eval()
    model[2].train()  # pyright: ignore
    with recalibration.in_place(0):
        channels = x.transpose(0, 1).flatten(1)
        assert torch.allclose(model[0].running_mean, channels.mean(1), rtol=1e-13)  # pyright: ignore
        assert torch.allclose(model[0].running_var, channels.var(1), rtol=1e-11)  # pyright: ignore
        assert not torch.equal(model[3].running_mean, before["3.running_mean"])  # pyright: ignore
    for name, one in model.state_dict().items():
        assert torch.equal(one, before[name]), name
    assert [one.training for one in model] == [False, False, True, False]  # pyright: ignore
    assert torch.equal(torch.get_rng_state(), state)


def test_later_layers_see_what_training_makes_of_the_same_groups() -> None:
    model, groups = model_of()
    x = values()
    recalibration = Recalibration(model, groups, lambda: [(x, (6, 6, 6))])
    with recalibration.in_place(0):
        precise = model[3].running_mean.clone()  # pyright: ignore
    groups.sizes = (6, 6, 6)
    model[0].train()  # pyright: ignore
    assert torch.allclose(precise, model[1](model[0](x)).mean((0, 2, 3)), rtol=1e-12)  # pyright: ignore


def test_frozen_statistics_are_left_alone() -> None:
    model, groups = model_of("frozen")
    with Recalibration(model, groups, lambda: [(values(), (18,))]).in_place(0):
        assert torch.equal(model[0].running_mean, torch.zeros(3, dtype=torch.float64))  # pyright: ignore


def positions_of(*overrides: str) -> np.ndarray:
    micro_batches: Any = assemble(composed([*QUIET, *SMALL, *overrides]), chosen={}).recalibration._micro_batches
    return micro_batches.positions


def test_the_draw_depends_on_nothing_but_the_seed() -> None:
    draw = positions_of("batch_norm.recalibrate_samples=256")
    assert len(set(draw.tolist())) == 256
    for change in ("batch.size=16", "sampler=sequential", "duration=5it", "batch_norm.group_size=8", "optimizer.lr=1"):
        assert np.array_equal(draw, positions_of("batch_norm.recalibrate_samples=256", change)), change
    assert not np.array_equal(draw, positions_of("batch_norm.recalibrate_samples=256", "seed=1"))


def test_only_whole_mini_batches_are_drawn() -> None:
    assert len(positions_of("batch_norm.recalibrate_samples=255")) == 192
    assert len(positions_of("batch_norm.recalibrate_samples=50")) == 50


def test_training_does_not_notice(train: Callable[..., Any]) -> None:
    plain, precise = train(*SMALL, "validate.every=7it"), train(*PRECISE, "validate.every=7it")
    assert without_times(rows(plain.run_dir)) == without_times(rows(precise.run_dir))
    checkpoint = "checkpoints/iteration-000000000042.ckpt"
    states = [torch.load(one.run_dir / checkpoint, weights_only=True)["state_dict"] for one in (plain, precise)]
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
    assert [row["val/loss"] for row in rows(plain.run_dir, "epochs")] != [
        row["val/loss"] for row in rows(precise.run_dir, "epochs")
    ]


@pytest.mark.parametrize("when", ["before_eval", "end"])
@pytest.mark.parametrize("averaged", ["ema=null", "ema=1ep"])
def test_final_weights_hold_the_precise_statistics_that_were_tested(
    train: Callable[..., Any], when: str, averaged: str
) -> None:
    result = train(*PRECISE, f"batch_norm.recalibrate={when}", averaged)
    parts = assemble(composed([*QUIET, *PRECISE, averaged]), chosen={})
    weights = final_weights(result.run_dir)
    parts.model.load_state_dict(weights)
    with parts.recalibration.in_place(0):
        for name, value in parts.model.state_dict().items():
            assert torch.equal(value, weights[name]), name
    validated = rows(result.run_dir, "epochs")[-1]["val/loss"]
    assert (result["val/loss"] == validated) is (when == "before_eval")


def test_statistics_at_the_end_are_measured_once_and_at_the_samples_seen(
    train: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    measured, seen = Recalibration._measured, list[int]()
    monkeypatch.setattr(
        Recalibration, "_measured", lambda self, samples: seen.append(samples) or measured(self, samples)
    )
    result = train(*PRECISE, "batch_norm.recalibrate=end")
    assert seen == [result["samples_seen"]]


def test_best_weights_keep_the_statistics_they_were_validated_with(train: Callable[..., Any]) -> None:
    result = train(*PRECISE, "validate.best=val/loss")
    best = torch.load(result.run_dir / "checkpoints" / "best.ckpt", weights_only=True)["weights"]
    final = final_weights(result.run_dir)
    if result["best/iteration"] == result["iterations"]:
        assert all(torch.equal(best[name], final[name]) for name in final)
    assert result["best/val/loss"] == min(row["val/loss"] for row in rows(result.run_dir, "epochs"))


@pytest.mark.parametrize("extra", [["batch_norm=renorm", "batch_norm.group_size=8"], ["ema=1ep"]], ids=str)
@pytest.mark.parametrize("when", ["before_eval", "end"])
def test_resume_is_bit_exact(train: Callable[..., Any], tmp_path: Path, when: str, extra: list[str]) -> None:
    overrides = [*PRECISE, f"batch_norm.recalibrate={when}", "checkpoint.every=5it", "validate.every=7it", *extra]
    check_same_run(train_with_kills(train, tmp_path / "cut", [3, 13, 21, 41], overrides), train(*overrides))


def test_batch_norm_runs_that_differ_by_their_lag_agree_once_recalibrated(train: Callable[..., Any]) -> None:
    """Momentum moves the running statistics alone: with precise ones it cannot be seen."""
    slow, fast = (train(*PRECISE, f"batch_norm.momentum={one}") for one in ("0.001", "1"))
    assert slow["val/loss"] == fast["val/loss"] and slow["test/loss"] == fast["test/loss"]
    never = [train(*SMALL, f"batch_norm.momentum={one}")["val/loss"] for one in ("0.001", "1")]
    assert never[0] > 2 * never[1]
