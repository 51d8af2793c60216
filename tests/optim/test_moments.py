"""Adam's moments when its betas change in mid-run."""

import pytest
import torch

from mbtrain.optim.moments import keep_corrected

BETAS, OTHERS = (0.9, 0.999), (0.2, 0.992)


def adam(gradients: list[float]) -> tuple[torch.nn.Parameter, torch.optim.AdamW]:
    """A weight after these gradients."""
    weight = torch.nn.Parameter(torch.zeros(3, dtype=torch.float64))
    optimizer = torch.optim.AdamW([weight], lr=0.01, betas=BETAS, eps=0, weight_decay=0, fused=True)
    for value in gradients:
        step(weight, optimizer, value)
    return weight, optimizer


def step(weight: torch.nn.Parameter, optimizer: torch.optim.AdamW, value: float) -> float:
    """How far one update with this gradient moves the weight."""
    before = float(weight[0].detach())
    weight.grad = torch.full_like(weight, value)
    optimizer.step()
    return before - float(weight[0].detach())


def corrected(state: dict[str, torch.Tensor], betas: tuple[float, float]) -> list[float]:
    t = float(state["step"])
    pairs = zip(("exp_avg", "exp_avg_sq"), betas, strict=True)
    return [float(state[name][0]) / (1 - beta**t) for name, beta in pairs]


@pytest.mark.parametrize("num_steps", [1, 5, 100])
def test_bias_corrected_moments_stay_when_the_betas_change(num_steps: int) -> None:
    weight, optimizer = adam([1.0 + index for index in range(num_steps)])
    state = optimizer.state[weight]
    before = corrected(state, BETAS)
    keep_corrected([state], before=BETAS, after=OTHERS)
    assert corrected(state, OTHERS) == pytest.approx(before, rel=1e-5)


def test_under_a_steady_gradient_updates_stay_as_large_as_the_learning_rate() -> None:
    weight, optimizer = adam([2.0] * 20)
    keep_corrected([optimizer.state[weight]], before=BETAS, after=OTHERS)
    optimizer.param_groups[0]["betas"] = OTHERS
    assert [step(weight, optimizer, 2.0) for _ in range(20)] == pytest.approx([0.01] * 20, rel=1e-4)


def test_without_it_they_would_be_over_twice_as_large() -> None:
    weight, optimizer = adam([2.0] * 20)
    optimizer.param_groups[0]["betas"] = OTHERS
    assert step(weight, optimizer, 2.0) > 0.02


def test_a_first_update_that_was_skipped_leaves_nothing_to_correct() -> None:
    state = {"step": torch.tensor(0.0), "exp_avg": torch.zeros(2), "exp_avg_sq": torch.zeros(2)}
    keep_corrected([state], before=BETAS, after=OTHERS)
    assert torch.equal(state["exp_avg"], torch.zeros(2)) and torch.equal(state["exp_avg_sq"], torch.zeros(2))


def test_a_beta_of_0_is_as_good_as_any() -> None:
    weight, optimizer = adam([2.0] * 20)
    state = optimizer.state[weight]
    keep_corrected([state], before=BETAS, after=(0.0, 0.999))
    assert float(state["exp_avg"][0]) == pytest.approx(2.0, rel=1e-5)
