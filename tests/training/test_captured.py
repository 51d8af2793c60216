"""CUDA graphs: a replay is the iteration, eager or compiled, and what it leaves outlives the next ones.

Where there is no GPU the iteration's tensor operations are recorded, and a replay repeats these alone, into the memory
they had: what is not on a device, such as a number of Python's, stays as it was at the capture, as in a graph.
"""

from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from mbtrain.optim.direct import rule_of_kernels
from mbtrain.plan.failed import Failed
from mbtrain.plan.refused import Refused
from mbtrain.training import captured, compiled, engine, recorder
from mbtrain.training.module import MiniBatchModule
from tests.conftest import final_weights, relative_difference, rows, without_times
from tests.training.test_resume import check_same_run, train_with_kills
from tests.training.untraced import Untraced

# A mini-batch in one graph; by parts, with gradient norms and weights that are tensors.
CASES = [
    ["model.dropout=0.3", "optimizer=adamw", "optimizer.lr=1e-3"],
    ["batch.micro_size=32", "optimizer.clip_norm=1", "loss.class_weights=[1,2,1,1,1,1,1,1,1,1]"],
]
LENGTH = ["duration=3ep", "batch.size=200"]
Train = Callable[..., Any]


class Recorded(TorchDispatchMode):
    """Keeps operations with their arguments and results."""

    def __init__(self) -> None:
        super().__init__()
        self._done: list[tuple[Any, Any, Any, Any]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        self._done.append((func, args, kwargs or {}, result))
        return result

    def replay(self) -> None:
        """The same operations, their results where the first ones lie."""
        with torch._C._AutoDispatchBelowAutograd():
            for function, args, kwargs, result in self._done:
                for old, new in zip(tree_leaves(result), tree_leaves(function(*args, **kwargs)), strict=True):
                    if isinstance(old, torch.Tensor) and old.data_ptr() != new.data_ptr():
                        old.copy_(new)


@pytest.fixture
def replayed(monkeypatch: pytest.MonkeyPatch) -> None:
    """On the CPU, without the compiler."""

    def capture(run: Callable[[], None]) -> Callable[[], None]:
        run()  # as the warm-up does
        recorded = Recorded()
        with recorded:
            run()
        return recorded.replay

    for module in (compiled, engine):
        monkeypatch.setattr(module, "is_on_gpu", lambda model: True)
    monkeypatch.setattr(compiled, "Traced", Untraced)
    monkeypatch.setattr(captured, "capture", capture)


def compared(train: Train, *options: str, engine: str, tolerance: float = 1e-10) -> bool:
    """Whether weights and rows are the eager engine's."""
    mine, theirs = (train(*options, f"trainer.engine={one}") for one in (engine, "eager"))
    assert mine["chosen"]["engine"] == engine
    weights = zip(*(final_weights(one.run_dir).values() for one in (mine, theirs)), strict=True)
    tables = zip(*(without_times(rows(one.run_dir)) for one in (mine, theirs)), strict=True)
    return all(relative_difference(one.double(), other.double()) <= tolerance for one, other in weights) and all(
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
def test_run_by_torchs_kernels_is_that_of_the_eager_engine(train: Train, monkeypatch: pytest.MonkeyPatch) -> None:
    taken = []

    def seen(*args: Any, **options: Any) -> Any:
        taken.append(rule_of_kernels(*args, **options))
        return taken[-1]

    monkeypatch.setattr(compiled, "rule_of_kernels", seen)
    assert compared(train, *LENGTH, *CASES[0], engine="captured", tolerance=2e-5)
    assert taken and taken[0] is not None


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
    monkeypatch.setattr(engine, "WORTH_CAPTURING", 3)
    run = train("trainer.engine=auto", "duration=3it", is_quiet=False)
    assert run["chosen"]["engine"] == "captured" and "captured in" in capsys.readouterr().err
    own = [f"model._target_={__name__}.Counting", "~model.hidden", "~model.dropout", "trust=[tests]", "duration=3it"]
    gave_up = train("trainer.engine=auto", *own, is_quiet=False)
    assert gave_up["chosen"]["engine"] == "eager" and "this run cannot be captured" in capsys.readouterr().err
    assert gave_up["weights_sha256"] == train("trainer.engine=eager", *own)["weights_sha256"]


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


class Listing(Counting):
    """Counts in a mapping."""

    def __init__(self, num_outputs: int) -> None:
        super().__init__(num_outputs)
        self.seen = {"calls": [0]}

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.seen["calls"][0] += 1
        return self.linear(x.flatten(1)) * (1 if self.seen["calls"][0] < 3 else 2)


class Initialised(Counting):
    """Sets itself by the first mini-batch that it sees."""

    def __init__(self, num_outputs: int) -> None:
        super().__init__(num_outputs)
        self.is_set = False

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if not self.is_set:
            with torch.no_grad():
                self.linear.bias.fill_(x.mean())
            self.is_set = True
        return self.linear(x.flatten(1))


class Tossing(Counting):
    """Leaves out half of its mini-batches, by numpy's numbers."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.linear(x.flatten(1)) * (1.0 if np.random.random() < 0.5 else 0.0)


@pytest.mark.usefixtures("replayed")
@pytest.mark.parametrize(
    ("model", "reason"),
    [
        ("Rebinding", "something else in the place of Rebinding.mean"),
        ("Counting", "something else in the place of Counting.num_calls"),
        ("Listing", "something else in the place of Listing.seen"),
        ("Initialised", "something else in the place of Initialised.is_set"),
        ("Tossing", "draws random numbers on the host"),
    ],
)
def test_model_that_changes_what_a_graph_would_not_is_refused_and_left_as_it_was(
    train: Train, monkeypatch: pytest.MonkeyPatch, model: str, reason: str
) -> None:
    monkeypatch.setattr(engine, "WORTH_CAPTURING", 1)
    own = [f"model._target_={__name__}.{model}", "~model.hidden", "~model.dropout", "trust=[tests]", "duration=5it"]
    with pytest.raises(Refused, match=reason):
        train(*own, "trainer.engine=captured")
    results = []
    for wanted in ("auto", "eager"):
        np.random.seed(0)
        results.append(train(*own, f"trainer.engine={wanted}"))
    gave_up, eager = results
    assert gave_up["chosen"]["engine"] == "eager" and gave_up["weights_sha256"] == eager["weights_sha256"]


class Cooling(torch.nn.Module):
    """Divides by a number that falls with each validation."""

    def __init__(self, num_outputs: int) -> None:
        super().__init__()
        self.linear, self.divisor = torch.nn.Linear(64, num_outputs), 2.0

    def train(self, mode: bool = True) -> "Cooling":
        if not mode:
            self.divisor /= 2
        return super().train(mode)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.linear(x.flatten(1)) / self.divisor


@pytest.mark.usefixtures("replayed")
@pytest.mark.parametrize("loop", ["lean", "stock"])
def test_model_that_a_validation_changes_ends_the_run_in_one_line(train: Train, loop: str) -> None:
    own = [f"model._target_={__name__}.Cooling", "~model.hidden", "~model.dropout", "trust=[tests]", "duration=2ep"]
    with pytest.raises(Failed, match="Cooling.divisor has changed since the iteration was captured: start a new run"):
        train(*own, "trainer.engine=captured", "validate.every=5it", f"trainer.loop={loop}")


NORMED = ["model=cnn", "model.channels=[4]", "batch_norm.group_size=16", "optimizer.lr=0.02", "ema=1ep"]


@pytest.mark.usefixtures("replayed")
def test_batch_norm_averaged_weights_and_a_rate_that_falls_are_the_eager_engines(train: Train) -> None:
    own = [*NORMED, "lr_schedule=linear", "batch.micro_size=64", "dataset.augment=[flip,crop]", "validate.every=4it"]
    assert compared(train, *LENGTH, *own, "trainer.precision=64-true", engine="captured")


@pytest.mark.gpu
@pytest.mark.parametrize("engine", ["captured", "compiled"])
@pytest.mark.parametrize("options", CASES, ids=["one graph", "by parts"])
def test_replays_on_a_gpu_leave_what_the_eager_engine_leaves_and_wait_for_nothing(
    train: Train, monkeypatch: pytest.MonkeyPatch, options: list[str], engine: str
) -> None:
    step = MiniBatchModule.training_step

    def guarded(self: Any, mini_batch: Any, batch_idx: int) -> None:
        with captured.waiting_for_nothing(mini_batch.device) if mini_batch.iteration.size == 200 else nullcontext():
            step(self, mini_batch, batch_idx)

    monkeypatch.setattr(MiniBatchModule, "training_step", guarded)
    # No block ends on the way: the log's thread may wait.
    monkeypatch.setattr(recorder, "BLOCK_SECONDS", 600.0)
    own = [*LENGTH, *options, "trainer.accelerator=gpu", "trainer.deterministic=true"]
    assert compared(train, *own, "trainer.precision=64-true", engine=engine)
    assert compared(train, *own, engine=engine, tolerance=1e-3)


@pytest.mark.gpu
def test_a_cut_run_on_a_gpu_is_the_whole_one_to_the_bit(train: Train, tmp_path: Path) -> None:
    own = [*LENGTH, *CASES[0], "trainer.accelerator=gpu", "trainer.deterministic=true", "trainer.engine=captured"]
    own += ["checkpoint.every=2it", "validate.every=3it"]
    check_same_run(train_with_kills(train, tmp_path / "cut", [1, 6, 9], own), train(*own))
