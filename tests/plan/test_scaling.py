"""Scaling rules against their closed forms, and what they are meant to keep."""

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mbtrain.plan.refused import Refused
from mbtrain.plan.scaling import AdamHalfLife, AdamSqrt, Linear, NotDefined, Scaling, Sqrt, Unscaled

ADAM = {"lr": 0.001, "betas": [0.9, 0.999], "eps": 1e-8, "weight_decay": 0.1}
KAPPAS = st.fractions(Fraction(1, 4096), 4096)


def test_nothing_follows_without_a_rule() -> None:
    assert Unscaled()(Fraction(8), ADAM) == {}
    assert not Scaling(Unscaled()).is_on


@given(KAPPAS)
def test_linear_is_the_learning_rate_times_kappa(kappa: Fraction) -> None:
    assert Linear()(kappa, {"lr": 0.1}) == {"lr": pytest.approx(0.1 * float(kappa), rel=1e-15)}


@given(KAPPAS)
def test_sqrt_keeps_the_covariance_of_an_update(kappa: Fraction) -> None:
    assert Sqrt()(kappa, {"lr": 0.1})["lr"] ** 2 / float(kappa) == pytest.approx(0.01, rel=1e-14)


@pytest.mark.parametrize("kappa", [Fraction(1, 8), Fraction(1), Fraction(3), Fraction(9)])
def test_adam_sqrt_is_the_paper_s(kappa: Fraction) -> None:
    k = float(kappa)
    changed = AdamSqrt()(kappa, ADAM)
    assert changed["lr"] == pytest.approx(0.001 * math.sqrt(k), rel=1e-15)
    assert changed["betas"] == pytest.approx([1 - k * 0.1, 1 - k * 0.001], rel=1e-14)
    assert changed["eps"] == pytest.approx(1e-8 / math.sqrt(k), rel=1e-15)
    assert set(changed) == {"lr", "betas", "eps"}


@pytest.mark.parametrize(("kappa", "is_defined"), [("9.99", True), ("10", False), ("64", False)])
def test_adam_sqrt_ends_where_beta1_would_be_0(kappa: str, is_defined: bool) -> None:
    if is_defined:
        assert AdamSqrt()(Fraction(kappa), ADAM)["betas"][0] == pytest.approx(0.001, rel=1e-12)
    else:
        with pytest.raises(NotDefined) as caught:
            AdamSqrt()(Fraction(kappa), ADAM)
        assert caught.value.limit == 10


def test_a_beta_of_0_averages_nothing_and_stays() -> None:
    assert AdamSqrt()(Fraction(4), ADAM | {"betas": [0.0, 0.99]})["betas"] == [0.0, 0.96]
    assert AdamSqrt()(Fraction(64), ADAM | {"betas": [0, 0]})["betas"] == [0, 0]


@given(KAPPAS)
def test_adam_half_life_is_that_of_beta2_in_samples(kappa: Fraction) -> None:
    def half_life(beta: float, size: float) -> float:
        return size * math.log(0.5) / math.log(beta)

    (beta1, beta2), size = AdamHalfLife()(kappa, ADAM)["betas"], 512 * float(kappa)
    # What is left of beta2 after 4096 times the batch has few digits, or near 1 few digits of 1 - beta2.
    assert half_life(beta2, size) == pytest.approx(half_life(0.999, 512), rel=1e-8)
    assert beta1 == 0.9


def test_a_beta2_of_95_percent_at_512_is_9999_at_1() -> None:
    changed = Scaling(AdamHalfLife(), 512).changed({"lr": 1, "betas": (0.9, 0.95)}, 1)
    assert changed["betas"][1] == pytest.approx(0.999900, abs=5e-7)


@pytest.mark.parametrize("rule", [Linear(), Sqrt(), AdamSqrt(), AdamHalfLife()])
def test_the_reference_size_itself_changes_nothing(rule: Linear) -> None:
    scaling = Scaling(rule, 48, batch_norm_momentum=True, weight_decay=True)
    assert ADAM | scaling.changed(ADAM, 48) == ADAM
    assert scaling.momentum(0.1, batch_size=48, group_size=None) == 0.1


@pytest.mark.parametrize("rule", [Unscaled(), Linear(), Sqrt(), AdamSqrt(), AdamHalfLife()])
@pytest.mark.parametrize("size", [1, 7, 32, 200])
def test_weight_decay_forgets_over_the_same_number_of_samples(rule: Linear, size: int) -> None:
    now = ADAM | Scaling(rule, 32, weight_decay=True).changed(ADAM, size)
    assert now["lr"] * now["weight_decay"] / size == pytest.approx(0.001 * 0.1 / 32, rel=1e-14)


def test_weight_decay_at_a_fixed_rate_is_kappa_times_as_large() -> None:
    assert Scaling(Unscaled(), 32, weight_decay=True).changed(ADAM, 256) == {"weight_decay": 0.8}
    assert Scaling(Unscaled(), 32, weight_decay=True).changed(ADAM | {"weight_decay": 0.0}, 256) == {}


@pytest.mark.parametrize(
    ("size", "group_size", "expected"),
    [
        (64, None, 0.19),  # one group of 64 where it was one of 32: as two groups of 32
        (16, None, 1 - 0.9**0.5),
        (64, 32, 0.1),  # two groups of 32 move the statistics twice by themselves
        (64, 48, 1 - 0.9**1.5),
        (16, 32, 1 - 0.9**0.5),
    ],
)
def test_batch_norm_momentum_follows_the_size_of_the_groups(size: int, group_size: int | None, expected: float) -> None:
    scaling = Scaling(Linear(), 32, batch_norm_momentum=True)
    assert scaling.momentum(0.1, batch_size=size, group_size=group_size) == pytest.approx(expected, rel=1e-14)


def test_batch_norm_momentum_stays_unless_it_is_asked_for() -> None:
    assert Scaling(Linear(), 32).momentum(0.1, batch_size=64, group_size=None) == 0.1


def test_the_largest_legal_batch_size_is_named_and_legal() -> None:
    scaling = Scaling(AdamSqrt(), 32)
    with pytest.raises(Refused) as caught:
        scaling.changed(ADAM, 512)
    assert str(caught.value) == (
        "scaling=adam_sqrt: is not defined for batch.size=512 with scaling.reference_size=32 "
        "(1 - beta = 0.1 times 16 is not below 1): batch.size=319 is the largest"
    )
    assert scaling.changed(ADAM, 319)["betas"][0] > 0
    with pytest.raises(Refused):
        scaling.changed(ADAM, 320)


def test_an_adam_rule_without_betas_is_refused() -> None:
    with pytest.raises(Refused, match="^scaling=adam_half_life: the optimizer has no betas: take optimizer=adamw"):
        Scaling(AdamHalfLife(), 32).changed({"lr": 0.1, "momentum": 0.9}, 64)


def test_a_rule_that_changes_what_is_not_there_is_refused() -> None:
    with pytest.raises(Refused, match="changes momentums, which the optimizer does not have"):
        Scaling(lambda kappa, values: {"momentums": 0.1}, 32).changed({"lr": 0.1}, 64)


def descents(lr: float, batch_size: int, *, num_samples: int = 64, num_runs: int = 20_000) -> np.ndarray:
    """Where SGD on w^2 / 2 with noise of unit variance per sample is after `num_samples` from w = 1, [runs]."""
    random, w = np.random.default_rng(0), np.ones(num_runs)
    for _ in range(num_samples // batch_size):
        w -= lr * (w + random.standard_normal(num_runs) / math.sqrt(batch_size))
    return w


def test_linear_keeps_mean_and_spread_of_the_weights_per_sample_and_sqrt_does_not() -> None:
    # After n updates of rate lr the mean is (1 - lr)^n: to first order in lr a function of lr * n alone, and the
    # variance is lr^2 / batch size each update.
    small = descents(0.002, 1)
    linear = descents(Scaling(Linear(), 1).changed({"lr": 0.002}, 8)["lr"], 8)
    sqrt = descents(Scaling(Sqrt(), 1).changed({"lr": 0.002}, 8)["lr"], 8)
    moved = 1 - small.mean()
    assert 1 - linear.mean() == pytest.approx(moved, rel=0.02)
    assert linear.std() == pytest.approx(small.std(), rel=0.03)
    assert 1 - sqrt.mean() < 0.5 * moved
