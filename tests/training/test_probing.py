"""The contract of a probe: what it needs is shown to it in order, and nothing of the training changes."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor

from mbtrain import assembly as assembly_module
from mbtrain.plan.duration import Duration, Points
from mbtrain.plan.refused import Refused
from mbtrain.plan.run import RunPlan
from mbtrain.probes.contract import NEEDS, Scheduled
from tests.conftest import final_weights, rows

HARD = ["duration=6it", "model=cnn", "model.dropout=0.2", "dataset.augment=[flip]", "batch.micro_size=8"]
HARD += ["batch_norm.group_size=4", "optimizer.clip_norm=0.01"]


class Greedy:
    """Asks for everything, and leaves modes, generators and buffers in disorder."""

    needs = NEEDS

    def __init__(self) -> None:
        self.calls: list[str] = []

        self.count = 0
        self.kept: list[Tensor] = []
        self.before: list[Tensor] = []

    def begin(self, iteration: Any, num_micro_batches: int) -> None:
        self.calls.append(f"begin {num_micro_batches}")

    @contextmanager
    def watching(self) -> Iterator[None]:
        self.calls.append("watching")
        yield
        self.calls.append("watched")

    def see_losses(self, values: Tensor, weights: Tensor | None) -> None:
        self.calls.append(f"losses {values.numel()}")

    def see_micro_gradient(self, weight: Any, gradient: Any) -> None:
        self.calls.append(f"micro {weight:.0f}")

    def see_gradient(self, weight: Any, gradient: Any) -> None:
        self.calls.append(f"gradient {weight:.0f}")
        self.kept = [one.clone() for one in gradient]

    def rehearse(self, rehearsal: Any) -> None:
        again = rehearsal.mean_gradient(7).gradient
        assert all(one.isfinite().all() for one in again)
        rehearsal.model.eval()
        torch.rand(5)
        self.calls.append("rehearse")

    def __call__(self, parameters: Sequence[Tensor]) -> dict[str, Tensor]:
        self.before = [one.detach().clone() for one in parameters]
        self.calls.append("call")
        return {"greedy/clipped": torch.stack([one.grad.norm() for one in parameters]).norm()}  # pyright: ignore

    def after_update(self, rehearsal: Any) -> dict[str, Tensor]:
        self.calls.append("after")
        moved = [(a - b).norm() for a, b in zip(rehearsal.parameters, self.before, strict=True)]
        return {"greedy/moved": torch.stack(moved).norm().detach(), "greedy/loss": rehearsal.mean_gradient().loss}

    def derived(self, row: Any) -> dict[str, float]:
        return {"greedy/twice": 2 * row["greedy/clipped"]}

    def rows_state(self) -> dict[str, Any]:
        return {}

    def load_rows(self, state: Any) -> None:
        assert state == {}

    def timed(self, seconds: Any) -> dict[str, Tensor]:
        self.calls.append("timed")
        return {}

    def state(self) -> dict[str, Any]:
        self.count += 1
        return {"count": self.count}

    def load(self, state: dict[str, Any]) -> None:
        self.count = state["count"] + 100


@pytest.fixture
def greedy(monkeypatch: pytest.MonkeyPatch) -> Greedy:
    """The probe of every run that this test trains after `use`."""
    return Greedy()


def use(probe: Any, monkeypatch: pytest.MonkeyPatch, every: str = "1it") -> None:
    """Put `probe` into the runs to come."""
    monkeypatch.setattr(
        assembly_module,
        "probes_of",
        lambda config, plan, *_: (Scheduled(probe, "greedy", [plan.cadence(Duration.parse(every))]),),
    )


def test_a_probe_that_asks_for_everything_changes_no_bit(
    train: Callable[..., Any], greedy: Greedy, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = train(*HARD)
    use(greedy, monkeypatch)
    watched = train(*HARD)
    assert watched["weights_sha256"] == plain["weights_sha256"]
    before, after = final_weights(plain.run_dir), final_weights(watched.run_dir)
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_what_it_needs_comes_in_the_order_of_the_contract(
    train: Callable[..., Any], greedy: Greedy, monkeypatch: pytest.MonkeyPatch
) -> None:
    use(greedy, monkeypatch, every="2it")
    train("duration=2it", "batch.size=32", "batch.micro_size=20")
    parts = ["losses 20", "micro 20", "losses 12", "micro 12"]
    head = ["begin 2", "watching", *parts, "watched", "gradient 32", "rehearse"]
    assert greedy.calls == [*head, "call", "timed", "after"]


def test_columns_before_and_after_the_update_stand_in_the_row(
    train: Callable[..., Any], greedy: Greedy, monkeypatch: pytest.MonkeyPatch
) -> None:
    use(greedy, monkeypatch)
    clip = ["optimizer.clip_norm=0.01", "optimizer.lr=0.1", "optimizer.momentum=0", "optimizer.nesterov=false"]
    for row in rows(train("duration=3it", "trainer.precision=64-true", *clip).run_dir):
        assert row["greedy/clipped"] == pytest.approx(0.01, rel=1e-3)
        assert row["greedy/twice"] == 2 * row["greedy/clipped"]
        assert row["greedy/moved"] == pytest.approx(0.001, rel=1e-3)
        assert row["greedy/loss"] < row["train/loss"]


def test_a_probe_s_memory_is_in_the_checkpoint(
    train: Callable[..., Any], greedy: Greedy, monkeypatch: pytest.MonkeyPatch
) -> None:
    use(greedy, monkeypatch)
    here = train("duration=2it", "checkpoint.every=1it").run_dir
    saved = greedy.count
    other = Greedy()
    use(other, monkeypatch)
    train("duration=3it", "checkpoint.every=1it", f"run_dir={here}")
    assert other.count > 100 + saved - 1


def test_a_rehearsal_repeats_the_training_s_pass(train: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    differences: list[float] = []

    class Same(Greedy):
        def rehearse(self, rehearsal: Any) -> None:
            again = rehearsal.mean_gradient().gradient
            pairs = zip(again, self.kept, strict=True)
            differences.append(max(float((a - b).abs().max()) for a, b in pairs))

    use(Same(), monkeypatch)
    train(*HARD)
    assert max(differences) == 0 and len(differences) == 6


def test_an_unknown_need_is_refused() -> None:
    class Wrong:
        needs = ("micro_gradient",)

    with pytest.raises(Refused, match="probe.x: needs 'micro_gradient', which no probe is given; there are iteration"):
        Scheduled(Wrong(), "x")


def test_points_are_the_first_iterations_that_reach_them() -> None:
    plan = RunPlan(num_samples=100, batch_size=32, duration=Duration.parse("2ep"))
    points = Points([Duration.parse(one) for one in ("3it", "33sp", "50%", "100%")], horizon=plan)
    places = [plan.iteration(index) for index in range(plan.num_iterations)]
    due = [one.index for one in places if points.is_due(one.index, one.samples_before, one.samples_after)]
    assert due == [1, 2, 3, 7]


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (["probe.gradient_norm.every=null"], "probe.gradient_norm.every=None: not a length"),
        (["+probe.gradient_norm.at=5it"], "probe.gradient_norm.at=5it: must be a list of lengths"),
        (["+probe.gradient_norm.at=[5]"], "probe.gradient_norm.at=5: not a length"),
    ],
)
def test_times_that_are_none_are_refused(train: Callable[..., Any], given: list[str], told: str) -> None:
    with pytest.raises(Refused) as error:
        train("probe=gradient_norm", *given)
    assert told in str(error.value)


def test_a_probe_may_be_due_at_chosen_points_alone(train: Callable[..., Any]) -> None:
    at = ["probe.gradient_norm.every=null", "+probe.gradient_norm.at=[2it,100%]"]
    table = rows(train("duration=5it", "probe=gradient_norm", *at).run_dir)
    assert [row["iteration"] for row in table if "gradient/norm" in row] == [2, 5]
