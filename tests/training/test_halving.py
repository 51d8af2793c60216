"""Memory that runs out in mid-run: the same mini-batch in smaller micro-batches, and nothing else is different."""

import json
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import mbtrain
from mbtrain.plan.failed import Failed
from mbtrain.run_folder import RunFolder
from mbtrain.training.halving import Halving
from mbtrain.training.module import MiniBatchModule
from tests.conftest import QUIET, final_weights, relative_difference, rows, without_times
from tests.memory import Memory

# 7 iterations an epoch, the last of 94; BN groups of 16, a checkpoint after iterations 5, 10, ...
AUTO = [
    "batch.micro_size=auto",
    "batch.size=200",
    "duration=2ep",
    "checkpoint.every=5it",
    "model=cnn",
    "model.channels=[4,8]",
    "batch_norm.group_size=16",
    "dataset.augment=[flip,crop]",
    "optimizer=adamw",
    "optimizer.lr=1e-3",
    "ema=1ep",
    "trainer.precision=64-true",
]


class Killed(BaseException):
    """Stands for a kill: nothing in the program catches it."""


def chosen(run_dir: Path) -> dict[str, Any]:
    return json.loads((run_dir / "chosen.json").read_text())


@pytest.mark.parametrize("loop", ["lean", "stock"])
@pytest.mark.parametrize("iteration", [1, 3, 7, 8, 14])
def test_halved_run_equals_one_of_the_smaller_size(
    train: Callable[..., Any], train_once: Callable[..., Any], memory: Memory, iteration: int, loop: str
) -> None:
    memory.limit(50, iteration=iteration)
    auto = train(*AUTO, f"trainer.loop={loop}")
    memory.limit(1000)
    fixed = train_once(*AUTO, "batch.micro_size=48", f"trainer.loop={loop}")
    mine, theirs = final_weights(auto.run_dir), final_weights(fixed.run_dir)
    for name in theirs:
        assert relative_difference(mine[name].double(), theirs[name].double()) <= 1e-9, name
    # The tail of 94 is 6 groups, a mini-batch of 200 is 13.
    sizes = [48] if iteration % 7 == 0 else [112, 64, 32]
    assert auto["chosen"]["halvings"] == [[iteration, size] for size in sizes]
    table = rows(auto.run_dir)
    assert [row["iteration"] for row in table] == list(range(1, 15)) and all(row["updated"] for row in table)
    for row in table:
        cut = sizes[-1] if row["iteration"] >= iteration else 200
        assert row["num_micro_batches"] == -(-row["batch_size"] // cut)


def test_retry_starts_from_weights_buffers_and_generators_bit_equal_to_those_before(
    train: Callable[..., Any], memory: Memory
) -> None:
    starts: dict[int, dict[str, torch.Tensor]] = {}

    def see(iteration: int, size: int, model: torch.nn.Module) -> None:
        if iteration == 4:  # the first pass of each attempt is kept; of the first attempt the second pass runs out
            state = {name: value.clone() for name, value in model.state_dict().items()}
            starts.setdefault(memory.num_raised, {**state, "generator": torch.get_rng_state()})

    def is_too_much(iteration: int, size: int) -> bool:
        return size > 150 or (iteration == 4 and size > 20 and memory.passes[-2][0] == 4)

    memory.see, memory.is_too_much = see, is_too_much
    result = train(*AUTO, "model.dropout=0.5")
    assert chosen(result.run_dir)["halvings"] == [[4, 64], [4, 32], [4, 16]] and len(starts) == 4
    first, *others = starts.values()
    for start in others:
        assert all(torch.equal(start[name], value) for name, value in first.items())


def test_without_the_copy_the_running_statistics_would_have_moved(
    train: Callable[..., Any], memory: Memory, monkeypatch: pytest.MonkeyPatch
) -> None:
    memory.limit(150, iteration=4)
    good = final_weights(train(*AUTO).run_dir)
    monkeypatch.setattr("mbtrain.training.halving.KeptBuffers.put_back", lambda self: None)
    bad = final_weights(train(*AUTO).run_dir)
    name = next(name for name in good if name.endswith("running_mean"))
    assert not torch.equal(good[name], bad[name])


@pytest.mark.parametrize("at", [4, 5, 6, 9])
def test_run_killed_after_the_halving_goes_on_as_it_was(
    train: Callable[..., Any], tmp_path: Path, memory: Memory, monkeypatch: pytest.MonkeyPatch, at: int
) -> None:
    memory.limit(120, iteration=4)
    whole = train(*AUTO)
    memory.restart()
    step = MiniBatchModule.training_step

    def mortal(self: Any, mini_batch: Any, batch_idx: int) -> None:
        if mini_batch.iteration.index == at:
            raise Killed
        step(self, mini_batch, batch_idx)

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(MiniBatchModule, "training_step", mortal)
        train(*AUTO, f"run_dir={tmp_path}/cut")
    memory.restart()
    check_goes_on(train, memory, tmp_path / "cut", whole)


def test_run_killed_between_the_record_and_the_retry_goes_on_as_it_was(
    train: Callable[..., Any], tmp_path: Path, memory: Memory
) -> None:
    memory.limit(120, iteration=4)
    whole = train(*AUTO)
    memory.restart()
    child = os.fork()
    if not child:
        choose = RunFolder.choose

        def mortal(self: RunFolder, values: Any) -> None:
            choose(self, values)
            if "halvings" in values:
                os.kill(os.getpid(), signal.SIGKILL)

        RunFolder.choose = mortal  # pyright: ignore[reportAttributeAccessIssue] (of the child alone)
        try:
            mbtrain.run([*QUIET, *AUTO, f"run_dir={tmp_path}/cut"])
        finally:
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    assert chosen(tmp_path / "cut")["halvings"] == [[4, 112]]
    check_goes_on(train, memory, tmp_path / "cut", whole)


def check_goes_on(train: Callable[..., Any], memory: Memory, run_dir: Path, whole: Any) -> None:
    """The run in the folder ends as the whole one did; what was recorded is obeyed, so that no memory runs out."""
    result = train(*AUTO, f"run_dir={run_dir}")
    assert memory.num_raised == 0 and (0, 200) not in memory.passes
    assert result["weights_sha256"] == whole["weights_sha256"]
    assert without_times(rows(run_dir)) == without_times(rows(whole.run_dir))
    assert result["chosen"] == whole["chosen"] and chosen(run_dir) == chosen(whole.run_dir)


def test_less_memory_after_a_resume_halves_again(train: Callable[..., Any], tmp_path: Path, memory: Memory) -> None:
    memory.limit(120, iteration=4)
    result = train(*AUTO, f"run_dir={tmp_path}/run")
    memory.limit(20, iteration=2)
    result = train(*AUTO, f"run_dir={tmp_path}/run", "duration=3ep")
    assert result["chosen"]["halvings"] == [[4, 112], [15, 64], [15, 32], [15, 16]]
    assert [row["num_micro_batches"] for row in rows(result.run_dir)[13:]] == [1, *[13] * 6, 6]


def test_mini_batch_smaller_than_the_micro_size_is_halved_itself(train: Callable[..., Any], memory: Memory) -> None:
    memory.is_too_much = lambda iteration, size: iteration == 7 and size > 50  # the tail, of 94
    result = train(*AUTO)
    assert result["chosen"]["halvings"] == [[7, 48]]
    assert [row["num_micro_batches"] for row in rows(result.run_dir)[5:8]] == [1, 2, 5]


def test_no_micro_batch_is_smaller_than_a_group_and_the_error_names_the_cures(
    train: Callable[..., Any], tmp_path: Path, memory: Memory
) -> None:
    memory.limit(10, iteration=4)
    with pytest.raises(Failed) as caught:
        train(*AUTO, f"run_dir={tmp_path}/run")
    message = str(caught.value)
    assert message.startswith("iteration 4: batch.micro_size=auto: out of memory with a micro-batch of 16")
    assert "trainer.activation_checkpointing=true" in message and "batch_norm.group_size below 16" in message
    assert "\n" not in message and len(rows(tmp_path / "run")) == 3
    assert json.loads((tmp_path / "run" / "status.json").read_text())["status"] == "failed"


def test_batch_norm_over_the_whole_mini_batch_is_never_cut(train: Callable[..., Any], memory: Memory) -> None:
    memory.limit(100, iteration=4)
    with pytest.raises(
        Failed, match="iteration 4: .* of 200, .*activation_checkpointing=true, .*batch_norm.group_size"
    ):
        train(*AUTO, "batch_norm.group_size=null")


@pytest.mark.parametrize("micro_size", ["null", "200"])
def test_micro_size_that_was_not_left_to_the_program_stays(
    train: Callable[..., Any], memory: Memory, micro_size: str
) -> None:
    memory.limit(100, iteration=4)
    with pytest.raises(torch.OutOfMemoryError):
        train(*AUTO, f"batch.micro_size={micro_size}")


def test_another_error_is_no_reason_to_halve(train: Callable[..., Any], tmp_path: Path, memory: Memory) -> None:
    memory.limit(100, iteration=4)
    memory.error = lambda: RuntimeError("mat1 and mat2 shapes cannot be multiplied")
    with pytest.raises(RuntimeError, match="mat1"):
        train(*AUTO, f"run_dir={tmp_path}/run")
    assert "halvings" not in chosen(tmp_path / "run")


def test_halving_is_told_in_one_line(
    train: Callable[..., Any], memory: Memory, capsys: pytest.CaptureFixture[str]
) -> None:
    memory.limit(120, iteration=4)
    train(*AUTO, is_quiet=False)
    assert "iteration 4: out of memory at batch.micro_size=200: going on with 112\n" in capsys.readouterr().err


def test_skipping_bad_numbers_and_halving_go_together(train: Callable[..., Any], memory: Memory) -> None:
    memory.limit(120, iteration=4)
    plain, skipping = train(*AUTO), train(*AUTO, "nonfinite=skip")
    assert plain["weights_sha256"] == skipping["weights_sha256"]


def test_workers_and_halving_go_together(train: Callable[..., Any], memory: Memory) -> None:
    memory.limit(120, iteration=4)
    in_memory, read = train(*AUTO), train(*AUTO, "dataset.workers=0")
    assert [row["num_micro_batches"] for row in rows(read.run_dir)][:4] == [1, 1, 1, 2]
    assert in_memory["weights_sha256"] == read["weights_sha256"]


class Counted:
    """A probe: the weight of the micro-gradients of a mini-batch."""

    needs = ("iteration", "micro_gradients")

    def __init__(self) -> None:
        self.weight = 0.0

    def see_micro_gradient(self, weight: float, gradient: Any) -> None:
        """Add the weight."""
        self.weight += weight

    def begin(self, iteration: Any, num_micro_batches: int) -> None:
        """Start over."""
        self.weight = 0.0

    def __call__(self, parameters: Any) -> dict[str, torch.Tensor]:
        """The sum, which is the mini-batch's size."""
        weight, self.weight = self.weight, 0.0
        return {"counted/weight": torch.tensor(weight)}


def test_probe_sees_each_sample_once(train: Callable[..., Any], tmp_path: Path, memory: Memory) -> None:
    # In iteration 4 the second pass of the first attempt runs out, after the first was seen.
    memory.is_too_much = lambda at, size: size > 150 or (at == 4 and size > 50 and memory.passes[-2][0] == 4)
    probe = tmp_path / "conf" / "probe" / "counted.yaml"
    probe.parent.mkdir(parents=True)
    probe.write_text("counted:\n  _target_: tests.training.test_halving.Counted\n  every: 1it\n")
    result = train(*AUTO, "probe=counted", "trust=[tests]", config_dir=tmp_path / "conf")
    assert len(result["chosen"]["halvings"]) > 0
    assert all(row["counted/weight"] == row["batch_size"] for row in rows(result.run_dir))


def test_buffers_are_copied_only_where_auto_was_asked(
    train: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Halving, "__init__", lambda *_, **__: pytest.fail("made"))
    train(*AUTO, "batch.micro_size=48", "duration=1it")
    train(*AUTO, "batch.micro_size=fastest", "duration=1it")
