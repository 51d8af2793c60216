"""`batch.micro_size=auto|fastest`: what is tried, what is taken, and that the search leaves no trace."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from mbtrain import micro_size as micro_size_module
from mbtrain.assembly import assemble
from mbtrain.data.loader import MiniBatch
from mbtrain.micro_size import with_micro_size
from mbtrain.plan.refused import Refused
from mbtrain.training.dry_run import DryRun
from tests.composing import composed
from tests.conftest import QUIET, final_weights, relative_difference, rows
from tests.memory import Memory

SHORT = ["batch.size=100", "duration=1ep"]
CNN = ["model=cnn", "model.channels=[4,8]", "batch_norm.group_size=8"]


def nothing_told(line: str) -> None:
    """Drops it."""


@pytest.mark.parametrize(
    ("overrides", "limit", "tried", "found"),
    [
        ([], 1000, [100], 100),
        ([], 99, [100, 50], 50),
        ([], 13, [100, 50, 25, 13], 13),
        ([], 1, [100, 50, 25, 13, 7, 4, 2, 1], 1),
        (CNN, 60, [100, 56], 56),
        (CNN, 8, [100, 56, 32, 16, 8], 8),
    ],
)
def test_auto_takes_the_largest_that_runs_each_really_tried(
    train: Callable[..., Any], memory: Memory, overrides: list[str], limit: int, tried: list[int], found: int
) -> None:
    memory.limit(limit)
    result = train(*SHORT, *overrides, "batch.micro_size=auto")
    rehearsed = [size for iteration, size in memory.passes if iteration == 0]
    assert list(dict.fromkeys(one for one in rehearsed if one >= found)) == tried
    assert memory.num_raised == len(tried) - 1
    assert result["chosen"]["micro_size"] == found and "halvings" not in result["chosen"]
    assert {row["num_micro_batches"] for row in rows(result.run_dir)[:-1]} == {-(-100 // found)}


# Under the limit of 60 both what runs and what does not is tried.
@pytest.mark.parametrize(("wanted", "limit"), [("auto", 1000), ("auto", 60), ("fastest", 60)])
@pytest.mark.parametrize(
    "overrides",
    [
        ["optimizer=sgd", "nonfinite=skip"],
        ["optimizer=adamw", "optimizer.lr=1e-3", "ema=1ep", "model.dropout=0.3", "dataset.augment=[flip,crop]"],
        # Its state is there from the start.
        ["optimizer._target_=torch.optim.Adagrad", "~optimizer.momentum", "~optimizer.nesterov"],
        ["trainer.precision=bf16-mixed", "dataset.workers=0", "sampler=with_replacement"],
    ],
    ids=["sgd", "adamw", "adagrad", "bf16"],
)
def test_search_leaves_no_trace_in_the_training(
    train: Callable[..., Any], memory: Memory, overrides: list[str], limit: int, wanted: str
) -> None:
    memory.limit(limit)
    searched = train(*SHORT, *CNN, *overrides, f"batch.micro_size={wanted}")
    size = searched["chosen"]["micro_size"]
    fixed = train(*SHORT, *CNN, *overrides, f"batch.micro_size={'null' if size == 100 else size}")
    assert searched["weights_sha256"] == fixed["weights_sha256"]


@pytest.mark.parametrize("optimizer", ["SGD", "AdamW", "Adagrad", "RMSprop"])
@pytest.mark.parametrize("place", ["forward", "step"])
def test_state_after_the_search_is_the_one_before_bit_for_bit(memory: Memory, optimizer: str, place: str) -> None:
    bare = ["~optimizer.momentum", "~optimizer.nesterov"] if optimizer != "SGD" else []
    overrides = ["batch.micro_size=auto", "ema=1ep", "optimizer.lr=0.1", f"optimizer._target_=torch.optim.{optimizer}"]
    config = composed([*QUIET, *SHORT, *CNN, *overrides, *bare])
    assembly = assemble(config, chosen={})
    if place == "forward":
        memory.limit(30)
    else:
        assembly.optimizer.register_step_post_hook(_runs_out_at_first())
    before = everything(assembly)
    found = with_micro_size(assembly, {}, nothing_told)
    assert found.micro_sizes is not None and found.micro_sizes.first < 100
    check_equal(everything(assembly), before)


def _runs_out_at_first() -> Callable[..., None]:
    count = 0

    def hook(*_: object) -> None:
        nonlocal count
        count += 1
        if count == 1:
            raise torch.OutOfMemoryError

    return hook


def everything(assembly: Any) -> dict[str, Any]:
    assert assembly.ema is not None
    parts = {
        "model": assembly.model.state_dict(),
        "gradients": [one.grad for one in assembly.model.parameters()],
        "optimizer": assembly.optimizer.state_dict(),
        "ema": assembly.ema.average,
        "generator": torch.get_rng_state(),
    }
    return {name: copied(value) for name, value in parts.items()}


def copied(value: Any) -> Any:
    if isinstance(value, torch.Tensor):
        return value.detach().clone()
    if isinstance(value, dict):
        return {name: copied(one) for name, one in value.items()}
    return [copied(one) for one in value] if isinstance(value, list | tuple) else value


def check_equal(one: Any, other: Any) -> None:
    if isinstance(one, torch.Tensor):
        assert torch.equal(one, other)
    elif isinstance(one, dict):
        assert one.keys() == other.keys()
        for name in one:
            check_equal(one[name], other[name])
    elif isinstance(one, list):
        for a, b in zip(one, other, strict=True):
            check_equal(a, b)
    else:
        assert one == other


def test_rehearsal_makes_the_optimizer_s_step(memory: Memory, monkeypatch: pytest.MonkeyPatch) -> None:
    assembly = assemble(composed([*QUIET, *SHORT, "batch.micro_size=auto", "optimizer=adamw"]), chosen={})
    steps: list[int] = []
    monkeypatch.setattr("mbtrain.training.update.Update.step", _counting(steps))
    with_micro_size(assembly, {}, nothing_told)
    # The first makes the optimizer's state, the second has it beside the activations.
    assert len(steps) == 2 and steps[1] > steps[0] == 0


def _counting(steps: list[int]) -> Callable[..., bool]:
    from mbtrain.training.update import Update

    step = Update.step

    def counted(self: Update, **options: Any) -> bool:
        steps.append(len(self.optimizer.state))
        return step(self, **options)

    return counted


@pytest.mark.parametrize(
    ("overrides", "cure"),
    [
        ([], "or take a smaller model"),
        (CNN, "batch_norm.group_size below 8"),
        (["model=cnn", "model.channels=[4,8]"], r"batch_norm.group_size below 100 \(null takes it over the whole"),
    ],
    ids=["mlp", "groups", "whole"],
)
@pytest.mark.parametrize("wanted", ["auto", "fastest"])
def test_memory_for_not_even_the_smallest_is_refused_with_its_cures_and_leaves_no_folder(
    train: Callable[..., Any], tmp_path: Path, memory: Memory, overrides: list[str], cure: str, wanted: str
) -> None:
    memory.limit(0)
    if wanted == "fastest" and overrides == ["model=cnn", "model.channels=[4,8]"]:
        pytest.skip("there is one candidate: nothing is timed")
    with pytest.raises(Refused, match=f"batch.micro_size={wanted}: .*trainer.activation_checkpointing=true.*{cure}"):
        train(*SHORT, *overrides, f"batch.micro_size={wanted}", f"run_dir={tmp_path}/a/b")
    assert not (tmp_path / "a").exists()


def test_plan_line_says_what_was_found_and_what_cannot_be_cut(
    train: Callable[..., Any], memory: Memory, capsys: pytest.CaptureFixture[str]
) -> None:
    memory.limit(60)
    train(*SHORT, *CNN, "batch.micro_size=auto", is_quiet=False)
    told = capsys.readouterr().err
    assert "batch.micro_size=auto: out of memory at 100\n" in told
    assert "batch 100 = 2 micro-batches of 56, the last of 44, batch norm over 8; " in told
    assert " 130 in all (batch.micro_size=auto: 56)\n" in told.replace("13 in all", "130 in all")
    memory.limit(1000)
    train(*SHORT, "model=cnn", "model.channels=[4,8]", "batch.micro_size=auto", is_quiet=False)
    told = capsys.readouterr().err
    assert "auto: 100, batch norm over the whole mini-batch cannot be cut: batch_norm.group_size=N lets it" in told


@pytest.fixture
def timed(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[int], float | None]], None]:
    """Have an update take the seconds that a function of its number of micro-batches says."""

    def take(seconds_of: Callable[[int], float | None]) -> None:
        monkeypatch.setattr(DryRun, "seconds", lambda self, cut: seconds_of(len(cut)))

    return take


def test_fastest_takes_the_size_of_the_least_median_and_shows_the_table(
    train: Callable[..., Any], timed: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    timed({1: 0.050, 2: 0.031, 4: 0.029, 8: 0.040, 15: 0.070}.get)
    result = train(*SHORT, "batch.micro_size=fastest", is_quiet=False)
    assert result["chosen"]["micro_size"] == 25
    assert rows(result.run_dir)[0]["num_micro_batches"] == 4
    told = capsys.readouterr().err
    assert "one update of 100 samples, median of 15\n" in told
    assert [line.split() for line in told.splitlines() if line.startswith("    ")][-4:] == [
        ["100", "1", "50.00"],
        ["50", "2", "31.00"],
        ["25", "4", "29.00", "taken"],
        ["13", "8", "40.00"],
    ]


def test_fastest_passes_over_what_does_not_run(train: Callable[..., Any], timed: Callable[..., None]) -> None:
    timed({1: None, 2: None, 4: 0.02, 8: 0.019, 15: 0.03, 25: 0.5}.get)
    assert train(*SHORT, "batch.micro_size=fastest")["chosen"]["micro_size"] == 13


def test_fastest_respects_groups_and_really_times(train: Callable[..., Any], memory: Memory) -> None:
    result = train(*SHORT, *CNN, "batch.micro_size=fastest")
    rehearsed = {size for iteration, size in memory.passes if iteration == 0}
    assert {100, 56, 44} <= rehearsed
    assert result["chosen"]["micro_size"] in (100, 56, 32, 16, 8)


@pytest.mark.parametrize("wanted", ["auto", "fastest"])
def test_what_was_found_is_used_again_without_a_search(
    train: Callable[..., Any], tmp_path: Path, memory: Memory, monkeypatch: pytest.MonkeyPatch, wanted: str
) -> None:
    memory.limit(60)
    overrides = [*SHORT, *CNN, f"batch.micro_size={wanted}", f"run_dir={tmp_path}/run"]
    first = train(*overrides)
    monkeypatch.setattr(micro_size_module, "dry_run", lambda *_: pytest.fail("searched again"))
    longer = train(*overrides, "duration=2ep")
    assert longer["chosen"] == first["chosen"]
    assert json.loads((tmp_path / "run" / "chosen.json").read_text())["micro_size"] == first["chosen"]["micro_size"]


def test_rehearsed_mini_batch_is_the_first_of_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    assembly = assemble(composed([*QUIET, *SHORT, "batch.micro_size=auto"]), chosen={})
    seen: list[MiniBatch] = []
    monkeypatch.setattr(DryRun, "runs", lambda self, cut: bool(seen.append(self._mini_batch)) or True)
    with_micro_size(assembly, {}, nothing_told)
    inputs, target = next(iter(seen[0].micro_batches()))[:2]
    positions = torch.from_numpy(assembly.order(0)[:100])
    assert torch.equal(inputs, assembly.data.train.x[positions])  # pyright: ignore[reportAttributeAccessIssue]
    assert torch.equal(target, assembly.data.train.y[positions])  # pyright: ignore[reportAttributeAccessIssue]


# 300 MB more than a fresh process has in use, where no earlier test has left memory to use again. In one arena
# (M_ARENA_MAX of malloc.h): malloc's others take address space, not memory.
LIMITED = """
import ctypes, resource, sys
from pathlib import Path
import mbtrain, mbtrain.one_run
ctypes.CDLL(None).mallopt(-8, 1)
used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + 300_000_000, resource.RLIM_INFINITY))
mbtrain.run(sys.argv[1:], is_quiet=False)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="needs RLIMIT_AS")
def test_run_under_a_real_limit_of_memory_equals_one_without(tmp_path: Path, train: Callable[..., Any]) -> None:
    wide = ["batch.size=1024", "duration=3it", "model=cnn", "model.channels=[128]", "batch_norm.group_size=32"]
    wide += ["validate=never", "trainer.precision=64-true"]
    overrides = [*QUIET, *wide, f"run_dir={tmp_path}/auto", "batch.micro_size=auto"]
    subprocess.run([sys.executable, "-c", LIMITED, *overrides], check=True)
    found = json.loads((tmp_path / "auto" / "result.json").read_text())["chosen"]
    assert found["micro_size"] < 1024
    free = train(*wide)
    mine, theirs = final_weights(tmp_path / "auto"), final_weights(free.run_dir)
    for name in theirs:
        assert relative_difference(mine[name].double(), theirs[name].double()) <= 1e-9, name
