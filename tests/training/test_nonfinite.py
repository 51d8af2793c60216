"""Bad numbers: found without waiting, never saved, traced to iteration, samples and layers, or skipped."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from mbtrain.plan.failed import Failed
from mbtrain.training import recorder as recorder_module
from mbtrain.training.checkpoint import newest
from mbtrain.training.finite import Gate, NotFinite, are_finite, refuse_bad_state
from mbtrain.training.module import MiniBatchModule
from mbtrain.training.sealed import read_sealed
from tests.conftest import rows, without_times

LENGTH = ["duration=3ep", "batch.size=64", "checkpoint.every=5it", "optimizer.lr=0.05"]  # 21 iterations an epoch


@pytest.fixture
def poisoned(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., None]]:
    """Have one iteration (counted from 1) meet a bad number, in every start of the run."""

    def poison(iteration: int, act: Callable[[MiniBatchModule, Any], None]) -> None:
        step = MiniBatchModule.training_step

        def bad_step(self: MiniBatchModule, mini_batch: Any, batch_idx: int) -> None:
            if mini_batch.iteration.index + 1 == iteration:
                act(self, mini_batch)
            step(self, mini_batch, batch_idx)

        monkeypatch.setattr(MiniBatchModule, "training_step", bad_step)

    yield poison


def with_bad_input(value: float, place: int = 3) -> Callable[[MiniBatchModule, Any], None]:
    """The input of the sample at `place` of the mini-batch is `value`."""

    def act(module: MiniBatchModule, mini_batch: Any) -> None:
        gather = mini_batch._gather

        def bad_gather(places: Any) -> tuple[Any, Any]:
            x, y = gather(places)
            x = x.clone()
            x[place] = value
            return x, y

        mini_batch._gather = bad_gather

    return act


def with_bad_gradient(module: MiniBatchModule, mini_batch: Any) -> None:
    """The gradient of the last layer overflows, the loss does not."""
    weight = module.parts.model.layers[-1].weight  # pyright: ignore
    handle = weight.register_hook(lambda gradient: (handle.remove(), gradient * float("inf"))[1])
    # Its gradient is 0 * inf in places: not a number.


def with_bad_weight(module: MiniBatchModule, mini_batch: Any) -> None:
    """A weight that the next update makes infinite: finite loss, finite gradient."""
    group = module.parts.update.optimizer.param_groups[0]
    group["weight_decay"] = 1e39


def failed(train: Callable[..., Any], run_dir: Path, *overrides: str) -> tuple[str, dict[str, Any]]:
    with pytest.raises(Failed) as caught:
        train(f"run_dir={run_dir}", *LENGTH, *overrides)
    return str(caught.value), json.loads((run_dir / "nonfinite.json").read_text())


@pytest.mark.parametrize("loop", ["lean", "stock"])
@pytest.mark.parametrize("iteration", [2, 12, 21, 22, 60])
def test_bad_input_stops_the_run_before_its_update_naming_where(
    train: Callable[..., Any], tmp_path: Path, poisoned: Callable[..., None], iteration: int, loop: str
) -> None:
    poisoned(iteration, with_bad_input(float("nan")))
    message, found = failed(train, tmp_path / "run", f"trainer.loop={loop}")
    assert f"iteration {iteration:,} " in message and "the loss is not finite" in message
    assert found["iteration"] == iteration and found["epoch"] == (iteration - 1) // 21
    assert len(found["samples"]) == (64 if iteration % 21 else 14)
    assert found["samples_not_finite"] == [found["samples"][3]]
    assert found["first_layer"] == "layers.0" or found["first_layer"] == "layers.1"
    assert [row["iteration"] for row in rows(tmp_path / "run")] == list(range(1, iteration))
    last_good = (iteration - 1) // 5 * 5
    assert found["checkpoint"] == (f"iteration-{last_good:012d}.ckpt" if last_good else None)
    assert json.loads((tmp_path / "run" / "status.json").read_text())["status"] == "failed"


@pytest.mark.parametrize(
    ("act", "what"),
    [
        (with_bad_input(float("inf")), "the loss"),
        (with_bad_gradient, "the gradient"),
        (with_bad_weight, "the update"),
    ],
    ids=["infinite input", "gradient", "update"],
)
def test_every_kind_of_bad_number_is_found_and_no_state_after_it_is_saved(
    train: Callable[..., Any], tmp_path: Path, poisoned: Callable[..., None], act: Any, what: str
) -> None:
    poisoned(13, act)
    message, found = failed(train, tmp_path / "run", "checkpoint.keep=100")
    assert found["what"] == what and found["iteration"] == 13, message
    for path in newest(tmp_path / "run" / "checkpoints"):
        assert read_sealed(path)["mbtrain"]["iterations"] <= 12
        assert bool(are_finite(read_sealed(path)["state_dict"].values()))


def test_label_and_learning_rate_that_are_no_numbers_are_told(train: Callable[..., Any], tmp_path: Path) -> None:
    x, y = np.random.default_rng(0).normal(size=(64, 3)), np.zeros((64, 1))
    y[7] = 1e38  # its square overflows
    np.savez(tmp_path / "data.npz", x=x, y=y)
    overrides = [f"dataset.path={tmp_path}/data.npz", "dataset.val_fraction=0.0", "batch.size=16", "loss=mse"]
    message, found = failed(train, tmp_path / "run", "dataset=arrays", *overrides)
    assert found["samples_not_finite"] == [7] and "from samples 7 of the training set" in message
    message, found = failed(train, tmp_path / "large", "optimizer.lr=1e39")
    assert found["what"] == "the update" and found["iteration"] == 1


def test_good_checkpoint_before_it_goes_on_once_the_cause_is_gone(
    train: Callable[..., Any], tmp_path: Path, poisoned: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    step = MiniBatchModule.training_step
    poisoned(13, with_bad_input(float("nan")))
    failed(train, tmp_path / "run")
    with monkeypatch.context() as patch:
        patch.setattr(MiniBatchModule, "training_step", step)
        result = train(f"run_dir={tmp_path}/run", *LENGTH)
        whole = train(*LENGTH)
    assert result["weights_sha256"] == whole["weights_sha256"]
    assert without_times(rows(result.run_dir)) == without_times(rows(whole.run_dir))


def test_loss_whose_sum_overflows_is_skipped_where_the_log_would_call_it_infinite() -> None:
    weight = torch.nn.Parameter(torch.zeros(2))
    model = torch.nn.ParameterList([weight])
    gate = Gate(model, torch.optim.SGD([weight]), None)
    for losses, is_kept in ((torch.tensor([3e38, 3e38]), False), (torch.tensor([3e38, -3e38]), True)):
        gate.keep()
        with torch.no_grad():
            weight.fill_(1.0)
        assert bool(gate.settle(losses, [torch.zeros(2)])) == is_kept
        assert weight.tolist() == ([1.0, 1.0] if is_kept else [0.0, 0.0])


def test_without_the_check_a_bad_run_would_be_called_done(
    train: Callable[..., Any], poisoned: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    poisoned(13, with_bad_input(float("nan")))
    monkeypatch.setattr(recorder_module, "NotFinite", _Ignored)
    monkeypatch.setattr("mbtrain.attempt.Recorder", lambda writer, scores, **_: _unwatched(writer, scores))
    monkeypatch.setattr("mbtrain.training.checkpoint.refuse_bad_state", lambda *_, **__: None)
    result = train(*LENGTH)
    assert result["status"] == "done" and np.isnan(result["test/loss"])


class _Ignored(Exception):
    pass


def _unwatched(writer: Any, scores: Any) -> Any:
    return recorder_module.Recorder(writer, scores)


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
@pytest.mark.parametrize("iteration", [1, 13])
@pytest.mark.parametrize("act", [with_bad_input(float("nan")), with_bad_gradient], ids=["loss", "gradient"])
def test_skipped_update_leaves_weights_buffers_and_optimizer_as_they_were(
    train: Callable[..., Any],
    tmp_path: Path,
    poisoned: Callable[..., None],
    optimizer: str,
    iteration: int,
    act: Any,
) -> None:
    overrides = [*LENGTH, "nonfinite=skip", f"optimizer={optimizer}", "ema=1ep", "checkpoint.every=1it"]
    overrides += ["checkpoint.keep=100", f"run_dir={tmp_path}/run"]
    if act is not with_bad_gradient:
        overrides += ["model=cnn", "model.channels=[4,8]"]  # with buffers
    poisoned(iteration, act)
    result = train(*overrides)
    assert [row["iteration"] for row in rows(result.run_dir) if not row["updated"]] == [iteration]
    assert result["status"] == "done" and np.isfinite(result["test/loss"])
    if iteration > 1:
        folder = tmp_path / "run" / "checkpoints"
        before, after = (read_sealed(folder / f"iteration-{count:012d}.ckpt") for count in (iteration - 1, iteration))
        check_same_tensors(before["state_dict"], after["state_dict"])
        check_same_tensors(before["optimizer_states"], after["optimizer_states"])
        check_same_tensors(before["mbtrain"]["ema"], after["mbtrain"]["ema"])
    assert np.isfinite([row["train/loss"] for row in rows(result.run_dir, "epochs")]).all()


def check_same_tensors(one: Any, other: Any) -> None:
    if isinstance(one, torch.Tensor):
        assert torch.equal(one, other)
    elif isinstance(one, dict):
        for key in one:
            if key != "lr":
                check_same_tensors(one[key], other[key])
    elif isinstance(one, list | tuple):
        for a, b in zip(one, other, strict=True):
            check_same_tensors(a, b)


def test_skipped_update_leaves_the_statistics_that_batch_renorm_leans_on(
    train: Callable[..., Any], tmp_path: Path, poisoned: Callable[..., None]
) -> None:
    overrides = [*LENGTH, "model=cnn", "model.channels=[4,8]", "batch_norm=renorm", "batch_norm.group_size=16"]
    overrides += ["batch_norm.recalibrate=before_eval", "trainer.activation_checkpointing=true"]
    poisoned(13, with_bad_input(float("nan")))
    result = train(*overrides, "nonfinite=skip", "checkpoint.every=1it", "checkpoint.keep=100")
    folder = result.run_dir / "checkpoints"
    before, after = (read_sealed(folder / f"iteration-{count:012d}.ckpt")["state_dict"] for count in (12, 13))
    check_same_tensors(before, after)
    assert [row["iteration"] for row in rows(result.run_dir) if not row["updated"]] == [13]
    assert np.isfinite([row["train/loss"] for row in rows(result.run_dir)[13:]]).all()


def test_gate_changes_no_bit_of_a_run_whose_numbers_are_finite(train: Callable[..., Any]) -> None:
    overrides = [*LENGTH, "model=cnn", "model.channels=[4,8]", "optimizer.lr=0.01", "duration=1ep"]
    assert train(*overrides, "nonfinite=skip")["weights_sha256"] == train(*overrides)["weights_sha256"]


def test_skip_may_be_chosen_when_a_stopped_run_goes_on(
    train: Callable[..., Any], tmp_path: Path, poisoned: Callable[..., None]
) -> None:
    poisoned(13, with_bad_input(float("nan")))
    failed(train, tmp_path / "run")
    result = train(f"run_dir={tmp_path}/run", *LENGTH, "nonfinite=skip")
    whole = train(*LENGTH, "nonfinite=skip")
    assert result["weights_sha256"] == whole["weights_sha256"]


def test_gate_makes_what_a_skipped_first_step_made_new_zero() -> None:
    model = nn.Linear(2, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    gate, before = Gate(model, optimizer, None), model.weight.detach().clone()
    gate.keep()
    model(torch.tensor([[float("nan"), 1.0]])).sum().backward()
    optimizer.step()
    gradient = [one.grad for one in model.parameters()]
    assert not bool(gate.settle(torch.tensor(1.0), gradient))
    assert torch.equal(model.weight, before)
    assert float(optimizer.state[model.weight]["momentum_buffer"].abs().sum()) == 0


@pytest.mark.parametrize("part", ["state_dict", "optimizer_states", "ema"])
def test_checkpoint_with_a_bad_number_is_refused_but_for_buffers_that_were_infinite(part: str) -> None:
    bad = torch.tensor([1.0, float("inf")])
    checkpoint: dict[str, Any] = {
        "state_dict": {"model.mask": bad.clone(), "model.weight": torch.ones(2)},
        "optimizer_states": [{"state": {0: {"exp_avg": torch.ones(2)}}}],
        "mbtrain": {"iterations": 7, "ema": [torch.ones(2)]},
    }
    refuse_bad_state(checkpoint, unbounded=frozenset({"mask"}))
    place = {"state_dict": checkpoint["state_dict"], "ema": checkpoint["mbtrain"]}.get(part, checkpoint)
    place["model.weight" if part == "state_dict" else part] = [bad]
    with pytest.raises(NotFinite, match="by iteration 7"):
        refuse_bad_state(checkpoint, unbounded=frozenset({"mask"}))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize(
    ("numbers", "finite"),
    [([1.0, float("nan")], False), ([float("inf"), 2.0], False), ([-float("inf")], False), ([6e4, 6e4, -6e4], True)],
)
def test_finite_is_what_holds_neither_nan_nor_infinity(dtype: torch.dtype, numbers: list[float], finite: bool) -> None:
    largest = torch.full((3,), torch.finfo(dtype).max, dtype=dtype)
    among = [None, largest, torch.arange(3), torch.zeros(0), torch.tensor(numbers, dtype=dtype).expand(2, len(numbers))]
    assert bool(are_finite(among)) == finite
