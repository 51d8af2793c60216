"""What follows the batch size, in runs: the optimizer and the layers get it, a change of size and a kill too."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from mbtrain.norm.convert import convert
from mbtrain.norm.groups import BnGroups
from mbtrain.optim.groups import parameter_groups
from mbtrain.plan.duration import Duration
from mbtrain.plan.refused import Refused
from mbtrain.plan.run import Iteration, RunPlan
from mbtrain.plan.scaling import AdamHalfLife, AdamSqrt, Linear, Scaling, Unscaled
from mbtrain.training.scaled import ScaledValues
from tests.conftest import final_weights, rows
from tests.training.test_resume import check_same_run, train_with_kills

SHORT = ["duration=1ep", "batch.size=96", "trainer.precision=64-true"]
MEANT = ["scaling.reference_size=32"]
NET = ["model=cnn", "model.channels=[4]"]
# Five mini-batches of 32, five of 96, thirteen of 48 and a tail of 30.
MOVING = ["batch.size=32", "batch_schedule=stepwise", "batch_schedule.at=160sp:96 640sp:48"]


def same_weights(one: Any, other: Any) -> bool:
    a, b = final_weights(one.run_dir), final_weights(other.run_dir)
    return all(torch.equal(a[name], b[name]) for name in a)


# The command line ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rule", "optimizer", "by_hand"),
    [
        ("none", "sgd", []),
        ("linear", "sgd", ["optimizer.lr=0.3"]),
        ("sqrt", "sgd", [f"optimizer.lr={0.1 * 3**0.5!r}"]),
        (
            "adam_sqrt",
            "adamw",
            [
                f"optimizer.lr={0.001 * 3**0.5!r}",
                "optimizer.betas=[0.7,0.997]",
                f"optimizer.eps={1e-8 / 3**0.5!r}",
            ],
        ),
        ("adam_half_life", "adamw", [f"optimizer.betas=[0.9,{0.999**3!r}]"]),
    ],
)
def test_a_run_under_a_rule_is_the_run_scaled_by_hand(
    train: Callable[..., Any], rule: str, optimizer: str, by_hand: list[str]
) -> None:
    own = [*SHORT, f"optimizer={optimizer}"]
    scaled = train(*own, f"scaling={rule}", *MEANT)
    hand = train(*own, *by_hand)
    assert scaled["iterations"] == 14
    assert [row["lr"] for row in rows(scaled.run_dir)] == pytest.approx([row["lr"] for row in rows(hand.run_dir)])
    if rule in ("none", "linear"):
        assert same_weights(scaled, hand)
    else:  # a square root by hand has its last digit rounded once more
        for name, one in final_weights(scaled.run_dir).items():
            assert torch.allclose(one, final_weights(hand.run_dir)[name], rtol=1e-9, atol=1e-12)


def test_full_batch_is_scaled_like_any_size(train: Callable[..., Any]) -> None:
    whole = train("batch=full_batch", "duration=2ep", "scaling=linear", "scaling.reference_size=1294")
    half = train("batch=full_batch", "duration=2ep", "scaling=linear", "scaling.reference_size=2588")
    assert [row["lr"] for row in rows(whole.run_dir)] == [0.1, 0.1]
    assert [row["lr"] for row in rows(half.run_dir)] == [0.05, 0.05]


def test_what_was_changed_is_told_once_and_kept(train: Callable[..., Any], capsys: pytest.CaptureFixture[str]) -> None:
    result = train(*SHORT, *NET, "scaling=linear", *MEANT, "scaling.batch_norm_momentum=true", is_quiet=False)
    line = "scaling=linear: optimizer.lr 0.1 -> 0.3, batch_norm.momentum 0.1 -> 0.271 (batch 96, meant for 32)\n"
    assert capsys.readouterr().err.count(line) == 1
    assert result["scaling"] == [
        {"iteration": 1, "batch_size": 96, "optimizer.lr": 0.3, "batch_norm.momentum": pytest.approx(0.271)}
    ]
    assert "scaling" not in train(*SHORT).values


def test_a_full_batch_beyond_adams_rule_is_refused_before_the_start(train: Callable[..., Any], tmp_path: Path) -> None:
    with pytest.raises(Refused, match=r"batch.size=1294 with scaling.reference_size=32 .*: batch.size=319 is the larg"):
        train("batch=full_batch", "optimizer=adamw", "scaling=adam_sqrt", *MEANT, f"run_dir={tmp_path}/run")
    assert not (tmp_path / "run").exists()


def test_an_optimizer_of_unwritten_betas_is_known_once_it_is_built(train: Callable[..., Any]) -> None:
    plain = ["~optimizer.momentum", "~optimizer.nesterov", "optimizer._target_=torch.optim.Adam", "duration=3it"]
    train(*plain, "scaling=adam_sqrt", *MEANT)
    with pytest.raises(Refused, match="^scaling=adam_sqrt: the optimizer has no betas"):
        train(*plain, "optimizer._target_=torch.optim.RMSprop", "scaling=adam_sqrt", *MEANT)


def test_a_rule_of_ones_own(train: Callable[..., Any]) -> None:
    mine = ["scaling._target_=tests.training.test_scaling.MomentumToo", "trust=[tests]"]
    result = train(*SHORT, *mine, *MEANT)
    assert result["scaling"] == [{"iteration": 1, "batch_size": 96, "optimizer.lr": 0.3, "optimizer.momentum": 0.7}]
    assert same_weights(result, train(*SHORT, "optimizer.lr=0.3", "optimizer.momentum=0.7"))


class MomentumToo:
    """A user's rule: as Linear, and momentum's 1 - m times kappa."""

    def __call__(self, kappa: Any, values: Any) -> dict[str, Any]:
        return Linear()(kappa, values) | {"momentum": round(float(1 - kappa * (1 - values["momentum"])), 12)}


# A change in mid-run -------------------------------------------------------------------------------------------------


CHANGING = [
    ["optimizer=adamw", "scaling=adam_sqrt", "scaling.weight_decay=true", "optimizer.decay_norms=false"],
    ["optimizer=adamw", "scaling=adam_half_life", "scaling.batch_norm_momentum=true", "nonfinite=skip", *NET],
    ["scaling=linear", "scaling.batch_norm_momentum=true", *NET],
]


@pytest.mark.slow
@pytest.mark.parametrize("choice", CHANGING, ids=["adam_sqrt", "adam_half_life", "linear"])
def test_a_run_whose_batch_size_changes_survives_kills(
    train: Callable[..., Any], tmp_path: Path, choice: list[str]
) -> None:
    own = [*SHORT, *MEANT, *MOVING, "checkpoint.every=2it", *choice]
    whole = train(*own)
    cut = train_with_kills(train, tmp_path / "cut", [3, 5, 6, 11], own)
    check_same_run(cut, whole)
    assert cut["scaling"] == whole["scaling"]
    assert [(one["iteration"], one["batch_size"]) for one in whole["scaling"]] == [(1, 32), (6, 96), (11, 48)]


def test_the_learning_rate_follows_each_change(train: Callable[..., Any]) -> None:
    lr = [row["lr"] for row in rows(train(*SHORT, *MEANT, *MOVING, "scaling=linear").run_dir)]
    assert lr == [0.1] * 5 + [0.3] * 5 + [0.15] * 14


def test_every_step_is_taken_with_the_values_of_its_batch_size(
    train: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[list[float], float]] = []
    fused = torch._fused_adamw_  # pyright: ignore[reportPrivateImportUsage]

    def watched(*given: Any, **options: Any) -> None:
        seen.append(([options["beta1"], options["beta2"]], options["eps"]))
        fused(*given, **options)

    monkeypatch.setattr(torch, "_fused_adamw_", watched)
    train(*SHORT, *MEANT, *MOVING, "optimizer=adamw", "scaling=adam_sqrt")
    # torch's own first step, which makes the state, calls the kernel by the same name.
    assert [betas for betas, _ in seen][-23:] == [[0.9, 0.999]] * 4 + [[0.7, 0.997]] * 5 + [[0.85, 0.9985]] * 14
    assert [eps for _, eps in seen][-4:] == pytest.approx([1e-8 / 1.5**0.5] * 4, rel=1e-14)


def test_the_ragged_tail_is_no_change_of_size(train: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    result = train(*SHORT, *MEANT, "scaling=linear")
    table = rows(result.run_dir)
    assert table[-1]["batch_size"] == 46 and {row["lr"] for row in table} == {0.3}
    assert len(result["scaling"]) == 1


# The values alone ----------------------------------------------------------------------------------------------------


def at(batch_size: int) -> Iteration:
    """An iteration while this size is in force."""
    plan = RunPlan(num_samples=1000, batch_size=10, duration=Duration.parse("1ep"))
    return plan.iteration(0)._replace(batch_size=batch_size)


@pytest.fixture
def layers() -> Iterator[nn.Module]:
    model = nn.Sequential(nn.Linear(2, 4), nn.BatchNorm1d(4), nn.BatchNorm1d(4, momentum=None))
    yield convert(model, "batch", BnGroups())


def test_spared_parameters_stay_spared_from_weight_decay(layers: nn.Module) -> None:
    optimizer = torch.optim.AdamW(parameter_groups(layers, decays_norms=False), weight_decay=0.1)
    values = ScaledValues(Scaling(Unscaled(), 32, weight_decay=True), optimizer, layers, lr=0.001, group_size=None)
    values.follow(at(64))
    assert [group["weight_decay"] for group in optimizer.param_groups] == [0.2, 0.0]


def test_batch_norm_layers_get_their_momentum_and_cumulative_averages_stay(layers: Any) -> None:
    optimizer = torch.optim.SGD(layers.parameters(), lr=0.1)
    scaling = Scaling(Linear(), 32, batch_norm_momentum=True)
    values = ScaledValues(scaling, optimizer, layers, lr=0.1, group_size=None)
    for size, expected in ((64, 0.19), (32, 0.1), (96, 0.271)):
        values.follow(at(size))
        assert layers[1].momentum == pytest.approx(expected, rel=1e-14) and layers[2].momentum is None


def test_changes_there_and_back_leave_the_configured_values(layers: nn.Module) -> None:
    optimizer = torch.optim.AdamW(layers.parameters(), lr=0.001)
    values = ScaledValues(Scaling(AdamSqrt(), 32), optimizer, layers, lr=0.001, group_size=None)
    for size in (64, 7, 319, 32):
        values.follow(at(size))
    group = optimizer.param_groups[0]
    assert values.lr == 0.001 and list(group["betas"]) == [0.9, 0.999] and group["eps"] == 1e-8


def test_moments_are_carried_over_a_change_once_and_not_at_a_resume(layers: nn.Module) -> None:
    def made() -> tuple[torch.optim.AdamW, ScaledValues]:
        optimizer = torch.optim.AdamW(layers.parameters(), lr=0.001)
        return optimizer, ScaledValues(Scaling(AdamHalfLife(), 32), optimizer, layers, lr=0.001, group_size=None)

    def second_moment(optimizer: torch.optim.AdamW) -> torch.Tensor:
        return optimizer.state[next(layers.parameters())]["exp_avg_sq"]

    optimizer, values = made()
    values.follow(at(32))
    for parameter in layers.parameters():
        parameter.grad = torch.ones_like(parameter)
    optimizer.step()
    before = second_moment(optimizer).clone()
    values.follow(at(256))
    after = second_moment(optimizer).clone()
    assert torch.allclose(after / before, torch.tensor((1 - 0.999**8) / (1 - 0.999)), rtol=1e-4)
    resumed, values = made()
    resumed.load_state_dict(optimizer.state_dict())
    values.follow(at(256))
    assert torch.equal(second_moment(resumed), after)


def test_batch_norm_momentum_without_batch_norm_is_told_to_change_nothing() -> None:
    model = nn.Linear(2, 2)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    scaling = Scaling(Unscaled(), 32, batch_norm_momentum=True)
    (line,) = ScaledValues(scaling, optimizer, model, lr=0.1, group_size=None).lines(64)
    assert line == (
        "scaling=none: no batch norm in use: scaling.batch_norm_momentum=true changes nothing (batch 64, meant for 32)"
    )


def test_one_call_a_step_and_nothing_more(train: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []
    changed = Scaling.changed
    monkeypatch.setattr(Scaling, "changed", lambda *given: calls.append(1) or changed(*given))
    train(*SHORT, *MEANT, "scaling=linear", "duration=3it")
    few = len(calls)
    train(*SHORT, *MEANT, "scaling=linear", "duration=30it")
    assert len(calls) == 2 * few
