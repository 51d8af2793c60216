"""CUDA graphs: a replay is the iteration, eager or compiled, and what it leaves outlives the next ones.

Where there is no GPU a replay is the iteration called again: inputs that are copied in, the ring, the rows are tested.
"""

from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch

from mbtrain.plan.refused import Refused
from mbtrain.training import captured, compiled, recorder
from mbtrain.training.module import MiniBatchModule
from tests.conftest import final_weights, relative_difference, rows, waiting_for_nothing, without_times
from tests.training.test_resume import check_same_run, train_with_kills

# A mini-batch in one graph; by parts, with gradient norms and weights that are tensors.
CASES = [
    ["model.dropout=0.3", "optimizer=adamw", "optimizer.lr=1e-3"],
    ["batch.micro_size=32", "optimizer.clip_norm=1", "loss.class_weights=[1,2,1,1,1,1,1,1,1,1]"],
]
LENGTH = ["duration=3ep", "batch.size=200"]
Train = Callable[..., Any]


@pytest.fixture
def replayed(monkeypatch: pytest.MonkeyPatch) -> None:
    """On the CPU, without the compiler."""

    def capture(run: Callable[[], None]) -> Callable[[], None]:
        run()  # as the warm-up does
        return run

    monkeypatch.setattr(compiled, "is_on_gpu", lambda model: True)
    monkeypatch.setattr(compiled, "_compiled", lambda function: function)
    monkeypatch.setattr(captured, "capture", capture)


def compared(train: Train, *options: str, engine: str, tolerance: float = 1e-10) -> bool:
    """Whether weights and rows are the eager engine's."""
    mine, theirs = (train(*options, f"trainer.engine={one}") for one in (engine, "eager"))
    assert mine["chosen"]["engine"] == engine
    weights = zip(*(final_weights(one.run_dir).values() for one in (mine, theirs)), strict=True)
    tables = zip(*(without_times(rows(one.run_dir)) for one in (mine, theirs)), strict=True)
    return all(relative_difference(one, other) <= tolerance for one, other in weights) and all(
        one == pytest.approx(other, rel=tolerance) for one, other in tables
    )


@pytest.mark.usefixtures("replayed")
@pytest.mark.parametrize("engine", ["captured", "compiled"])
@pytest.mark.parametrize("block", [64, 3])
@pytest.mark.parametrize("options", CASES, ids=["one graph", "by parts"])
def test_run_is_that_of_the_eager_engine_rows_and_all(
    train: Train, monkeypatch: pytest.MonkeyPatch, options: list[str], block: int, engine: str
) -> None:
    monkeypatch.setattr(recorder, "BLOCK_ITERATIONS", block)
    assert compared(train, *LENGTH, *options, "trainer.precision=64-true", engine=engine)


@pytest.mark.usefixtures("replayed")
def test_run_by_torchs_kernels_is_that_of_the_eager_engine(train: Train) -> None:
    assert compared(train, *LENGTH, *CASES[0], engine="captured", tolerance=2e-5)


@pytest.mark.usefixtures("replayed")
def test_a_ring_of_fewer_places_than_a_block_would_be_seen(train: Train, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(captured, "most_iterations", lambda pairs: 2)
    assert not compared(train, *LENGTH, *CASES[0], "trainer.precision=64-true", engine="captured")


@pytest.mark.usefixtures("replayed")
def test_rows_are_right_where_larger_mini_batches_leave_a_block_fewer_places(
    train: Train, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recorder, "BLOCK_BYTES", 100 * 10 * 8 * 3)  # three iterations' outputs of the larger size
    grown = ["duration=1ep", "batch.size=10", "batch_schedule=stepwise", "batch_schedule.at='400sp:100'"]
    assert compared(train, *grown, "trainer.precision=64-true", engine="captured")


@pytest.mark.usefixtures("replayed")
def test_auto_captures_on_a_gpu_where_the_run_is_not_short(
    train: Train, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    short = train("trainer.engine=auto", "duration=3it", is_quiet=False)
    assert short["chosen"]["engine"] == "eager" and "eager: too short to capture" in capsys.readouterr().err
    monkeypatch.setattr(compiled, "WORTH_CAPTURING", 3)
    run = train("trainer.engine=auto", "duration=3it", is_quiet=False)
    assert run["chosen"]["engine"] == "captured" and "captured in" in capsys.readouterr().err
    own = [f"model._target_={__name__}.Counting", "~model.hidden", "~model.dropout", "trust=[tests]", "duration=3it"]
    eager = train("trainer.engine=auto", *own, is_quiet=False)
    assert eager["chosen"]["engine"] == "eager" and "this run cannot be captured" in capsys.readouterr().err


class Rebinding(torch.nn.Module):
    """Keeps a mean of its inputs in a new tensor each time."""

    def __init__(self, num_outputs: int) -> None:
        super().__init__()
        self.linear = torch.nn.Linear(64, num_outputs)
        self.register_buffer("mean", torch.zeros(64))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x.flatten(1)
        self.mean = 0.9 * self.mean + 0.1 * x.detach().mean(0)
        return self.linear(x - self.mean)


class Counting(torch.nn.Module):
    """Trains another way from its third mini-batch on."""

    def __init__(self, num_outputs: int) -> None:
        super().__init__()
        self.linear, self.num_calls = torch.nn.Linear(64, num_outputs), 0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.num_calls += 1
        return self.linear(x.flatten(1)) * (1 if self.num_calls < 3 else 2)


@pytest.mark.usefixtures("replayed")
@pytest.mark.parametrize(("model", "name"), [("Rebinding", "mean"), ("Counting", "num_calls")])
def test_model_that_changes_what_a_graph_would_not_is_refused(train: Train, model: str, name: str) -> None:
    own = [f"model._target_={__name__}.{model}", "~model.hidden", "~model.dropout", "trust=[tests]", "duration=3it"]
    with pytest.raises(Refused, match=f"something else in the place of {model}.{name}"):
        train(*own, "trainer.engine=captured")
    assert train(*own, "trainer.engine=eager")["iterations"] == 3


@pytest.mark.gpu
@pytest.mark.parametrize("engine", ["captured", "compiled"])
@pytest.mark.parametrize("options", CASES, ids=["one graph", "by parts"])
def test_replays_on_a_gpu_leave_what_the_eager_engine_leaves_and_wait_for_nothing(
    train: Train, monkeypatch: pytest.MonkeyPatch, options: list[str], engine: str
) -> None:
    step = MiniBatchModule.training_step

    def guarded(self: Any, mini_batch: Any, batch_idx: int) -> None:
        with waiting_for_nothing() if mini_batch.iteration.size == 200 else nullcontext():
            step(self, mini_batch, batch_idx)

    monkeypatch.setattr(MiniBatchModule, "training_step", guarded)
    # No block ends on the way: the log's thread may wait.
    monkeypatch.setattr(recorder, "BLOCK_SECONDS", 600.0)
    own = [*LENGTH, *options, "trainer.accelerator=gpu", "trainer.deterministic=true", "trainer.precision=64-true"]
    assert compared(train, *own, engine=engine)


@pytest.mark.gpu
def test_a_cut_run_on_a_gpu_is_the_whole_one_to_the_bit(train: Train, tmp_path: Path) -> None:
    own = [*LENGTH, *CASES[0], "trainer.accelerator=gpu", "trainer.deterministic=true", "trainer.engine=captured"]
    own += ["checkpoint.every=2it", "validate.every=3it"]
    check_same_run(train_with_kills(train, tmp_path / "cut", [1, 6, 9], own), train(*own))
