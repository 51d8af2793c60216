"""trainer.engine=captured: what is replayed is the compiled iteration, and what it leaves outlives the next ones.

Where there is no GPU a replay is the iteration called again: inputs that are copied in, the ring, the rows are tested.
"""

from collections.abc import Callable
from typing import Any

import pytest
import torch

from mbtrain.plan.refused import Refused
from mbtrain.training import captured, compiled, recorder
from mbtrain.training.module import MiniBatchModule
from tests.conftest import rows, without_times

# A mini-batch in one graph; by parts, with gradient norms and weights that are tensors.
CASES = [
    ["model.dropout=0.3", "optimizer=adamw", "optimizer.lr=1e-3"],
    ["batch.micro_size=32", "optimizer.clip_norm=1", "loss.class_weights=[1,2,1,1,1,1,1,1,1,1]"],
]
LENGTH = ["duration=3ep", "batch.size=200"]


@pytest.fixture
def replayed(monkeypatch: pytest.MonkeyPatch) -> None:
    """On the CPU, without the compiler."""

    def capture(run: Callable[[], None]) -> Callable[[], None]:
        run()  # as the warm-up does
        return run

    monkeypatch.setattr(compiled, "is_on_gpu", lambda model: True)
    monkeypatch.setattr(compiled, "_compiled", lambda function: function)
    monkeypatch.setattr(captured, "capture", capture)


@pytest.mark.usefixtures("replayed")
@pytest.mark.parametrize("block", [64, 3])
@pytest.mark.parametrize("options", CASES, ids=["one graph", "by parts"])
def test_run_is_that_of_the_compiled_engine_rows_and_all(
    train: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, options: list[str], block: int
) -> None:
    monkeypatch.setattr(recorder, "BLOCK_ITERATIONS", block)
    mine, theirs = (train(*LENGTH, *options, f"trainer.engine={one}") for one in ("captured", "compiled"))
    assert mine["weights_sha256"] == theirs["weights_sha256"] and mine["chosen"]["engine"] == "captured"
    assert without_times(rows(mine.run_dir)) == without_times(rows(theirs.run_dir))


@pytest.mark.usefixtures("replayed")
def test_a_ring_of_fewer_places_than_a_block_would_be_seen(
    train: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(captured, "most_iterations", lambda pairs: 2)
    mine, theirs = (train(*LENGTH, *CASES[0], f"trainer.engine={one}") for one in ("captured", "compiled"))
    assert without_times(rows(mine.run_dir)) != without_times(rows(theirs.run_dir))


@pytest.mark.usefixtures("replayed")
def test_rows_are_right_where_larger_mini_batches_leave_a_block_fewer_places(
    train: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recorder, "BLOCK_BYTES", 100 * 10 * 4 * 3)  # three iterations' outputs of the larger size
    grown = ["batch.size=10", "batch_schedule=stepwise", "batch_schedule.at='400sp:100'"]
    mine, theirs = (train("duration=1ep", *grown, f"trainer.engine={one}") for one in ("captured", "compiled"))
    assert mine["chosen"]["engine"] == "captured" and len({row["batch_size"] for row in rows(mine.run_dir)}) > 1
    assert without_times(rows(mine.run_dir)) == without_times(rows(theirs.run_dir))


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


@pytest.mark.usefixtures("replayed")
def test_model_that_puts_a_new_tensor_in_the_place_of_a_buffer_is_refused(train: Callable[..., Any]) -> None:
    own = [f"model._target_={__name__}.Rebinding", "~model.hidden", "~model.dropout", "trust=[tests]", "duration=3it"]
    with pytest.raises(Refused, match="another tensor in the place of Rebinding.mean"):
        train(*own, "trainer.engine=captured")
    assert train(*own, "trainer.engine=compiled")["iterations"] == 3


@pytest.mark.gpu
@pytest.mark.parametrize("options", CASES, ids=["one graph", "by parts"])
def test_replays_on_a_gpu_leave_what_the_compiled_engine_leaves_and_wait_for_nothing(
    train: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, options: list[str]
) -> None:
    own = [*LENGTH, *options, "trainer.accelerator=gpu", "trainer.deterministic=true"]
    theirs = train(*own, "trainer.engine=compiled")
    step = MiniBatchModule.training_step

    def guarded(self: Any, mini_batch: Any, batch_idx: int) -> None:
        torch.cuda.set_sync_debug_mode("error" if mini_batch.iteration.size == 200 else "default")
        try:
            step(self, mini_batch, batch_idx)
        finally:
            torch.cuda.set_sync_debug_mode("default")

    monkeypatch.setattr(MiniBatchModule, "training_step", guarded)
    mine = train(*own, "trainer.engine=captured")
    assert mine["weights_sha256"] == theirs["weights_sha256"]
    assert without_times(rows(mine.run_dir)) == without_times(rows(theirs.run_dir))
