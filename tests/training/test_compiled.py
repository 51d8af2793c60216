"""`trainer.engine=compiled`: the eager engine's numbers to rounding, and its own to the bit after any cut."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch

from mbtrain.plan.failed import Failed
from mbtrain.plan.refused import Refused
from mbtrain.training import compiled, engine
from mbtrain.training.checkpoint import newest
from mbtrain.training.sealed import read_sealed
from mbtrain.training.update import Update
from tests.conftest import QUIET, final_weights, relative_difference, rows, without_times
from tests.training.test_resume import check_same_run, train_with_kills
from tests.training.untraced import Untraced

pytestmark = pytest.mark.skipif(shutil.which(os.environ.get("CXX", "g++")) is None, reason="no C++ compiler")
LENGTH = ["duration=2ep", "batch.size=200", "trainer.engine=compiled"]  # 7 iterations an epoch, the last of 94
# Dropout, clipping, averaged weights, AdamW: all that draws or remembers.
DRAWS = ["model.dropout=0.3", "optimizer=adamw", "optimizer.lr=1e-3", "optimizer.clip_norm=1", "ema=1ep"]
# Six micro-batches of 32 samples and one of 8: a graph for four of them, one for the rest, one for the update.
GHOSTS = ["model=cnn", "model.channels=[4]", "batch.micro_size=32", "batch_norm.group_size=16", "optimizer.lr=0.02"]
GHOSTS += ["model.dropout=0.3", "optimizer.clip_norm=1", "dataset.augment=[flip,crop]"]


@pytest.mark.slow
@pytest.mark.skipif(torch.__version__ < "2.13", reason="this torch draws in another order where it compiles")
@pytest.mark.parametrize("options", [["batch.micro_size=100", *DRAWS], GHOSTS], ids=["one graph", "by parts"])
def test_agrees_with_the_eager_engine(train: Callable[..., Any], options: list[str]) -> None:
    graph = train(*LENGTH, "trainer.precision=64-true", *options)
    eager = train(*LENGTH, "trainer.precision=64-true", *options, "trainer.engine=eager")
    ours, theirs = (final_weights(one.run_dir) for one in (graph, eager))
    assert max(relative_difference(ours[name].double(), theirs[name].double()) for name in theirs) <= 1e-11
    assert graph["chosen"]["engine"] == "compiled"
    # Batch norm's count of mini-batches is among the weights: compiling has trained nothing.
    for mine, other in zip(*(without_times(rows(one.run_dir)) for one in (graph, eager)), strict=True):
        assert mine == pytest.approx(other, rel=1e-10)


@pytest.mark.slow
def test_a_cut_run_equals_the_whole_one(train: Callable[..., Any], tmp_path: Path) -> None:
    options = [*LENGTH, *DRAWS, "checkpoint.every=2it", "validate.every=3it"]
    check_same_run(train_with_kills(train, tmp_path / "cut", [1, 6, 9], options), train(*options))


GROWS = ["batch_schedule=stepwise", "batch_schedule.at='600sp:100 1500sp:150'"]


@pytest.mark.slow
@pytest.mark.parametrize("micro_size", [100, 20], ids=["one graph", "by parts"])
def test_sizes_that_change_agree_with_the_eager_engine_and_over_a_cut(
    train: Callable[..., Any], tmp_path: Path, micro_size: int
) -> None:
    own = ["batch.size=50", "duration=2ep", *GROWS, f"batch.micro_size={micro_size}", "optimizer.clip_norm=1"]
    own += ["trainer.precision=64-true", "checkpoint.every=2it"]
    whole = train(*own, "trainer.engine=compiled")
    check_same_run(train_with_kills(train, tmp_path / "cut", [5, 17], [*own, "trainer.engine=compiled"]), whole)
    mine, theirs = final_weights(whole.run_dir), final_weights(train(*own).run_dir)
    for name in theirs:
        assert relative_difference(mine[name], theirs[name]) <= 1e-11


@pytest.mark.slow
def test_block_of_rows_may_hold_mini_batches_in_one_graph_and_by_parts(train: Callable[..., Any]) -> None:
    own = ["batch.size=50", "duration=1ep", "batch_schedule=stepwise", "batch_schedule.at='600sp:100'"]
    own += ["batch.micro_size=20", "trainer.precision=64-true"]
    mine, theirs = (rows(train(*own, f"trainer.engine={engine}").run_dir) for engine in ("compiled", "eager"))
    assert [row["num_micro_batches"] for row in mine] == [row["num_micro_batches"] for row in theirs]
    assert {row["num_micro_batches"] for row in mine} == {3, 5}
    for one, other in zip(mine, theirs, strict=True):
        assert one["train/loss"] == pytest.approx(other["train/loss"], rel=1e-10)


@pytest.mark.slow
def test_a_new_process_with_an_empty_cache_goes_on_to_the_same_bit(train: Callable[..., Any], tmp_path: Path) -> None:
    whole, cut = train(*LENGTH, *DRAWS), tmp_path / "cut"
    train(*LENGTH, *DRAWS, "duration=5it", f"run_dir={cut}")
    command = [sys.executable, "-m", "mbtrain", *QUIET, *LENGTH, *DRAWS, f"run_dir={cut}"]
    environment = {**os.environ, "TORCHINDUCTOR_CACHE_DIR": str(tmp_path / "cache")}
    subprocess.run(command, env=environment, check=True, capture_output=True)
    ours, theirs = (final_weights(one) for one in (cut, whole.run_dir))
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (["probe=gradient_norm"], "probes look at gradients"),
        (["nonfinite=skip"], "nonfinite=skip takes updates back"),
        (["dataset.workers=0"], "the data are not in memory"),
        (["trainer.engine=captured", "trainer.accelerator=cpu"], "a CUDA graph needs a GPU"),
    ],
    ids=str,
)
def test_refuses_with_a_reason_what_it_does_not_do(train: Callable[..., Any], options: list[str], reason: str) -> None:
    with pytest.raises(Refused, match=f"trainer.engine=.*: {reason}: set trainer.engine=eager"):
        train(*LENGTH, *options)


class Hooked(torch.nn.Module):
    """Half of its gradient is masked by a hook; or it has a number that torch would lose in float64."""

    def __init__(self, num_outputs: int, is_hooked: bool) -> None:
        super().__init__()
        self.linear, self.scale = torch.nn.Linear(64, num_outputs), torch.nn.Parameter(torch.tensor(1.0))
        if is_hooked:
            mask = torch.arange(64) % 2
            self.linear.weight.register_hook(lambda gradient: gradient * mask)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.scale * self.linear(x.flatten(1))


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (["+model.is_hooked=true"], "hooks on parameters change gradients"),
        (["+model.is_hooked=false", "trainer.precision=64-true"], "torch loses what is written to 0-d float64 numbers"),
    ],
)
def test_refuses_a_model_whose_gradient_or_numbers_would_be_others(
    train: Callable[..., Any], options: list[str], reason: str
) -> None:
    own = [f"model._target_={__name__}.Hooked", "~model.hidden", "~model.dropout", "trust=[tests]", "duration=1it"]
    with pytest.raises(Refused, match=reason):
        train("trainer.engine=compiled", *own, *options)


class Steers:
    """A rate of the user's own, which looks after the model too."""

    def __init__(self, warmup: str | None) -> None:
        """`warmup` is the shipped choice's option."""

    def __call__(self, horizon: Any) -> Callable[[float], float]:
        """The factor of the rate after so many samples."""
        return self._factor

    def _factor(self, samples: float) -> float:
        if samples > 128:
            Changing.made[-1].factor = 3.0
        return 1.0


@pytest.mark.slow
@pytest.mark.parametrize("is_eager", [True, False])
def test_schedule_of_the_user_s_that_changes_the_model_is_seen_at_once(
    train: Callable[..., Any], is_eager: bool
) -> None:
    own = [f"model._target_={__name__}.Changing", "~model.hidden", "~model.dropout", "trust=[tests]", "duration=8it"]
    own += [f"lr_schedule._target_={__name__}.Steers", "validate=never", "+model.grows=false"]
    if is_eager:
        train(*own)
        return
    with pytest.raises(Failed, match="iteration [56]: the model's code does something else"):
        train(*own, "trainer.engine=compiled")


@pytest.fixture
def uncompiled(monkeypatch: pytest.MonkeyPatch) -> None:
    """The compiled engine without the compiler, which takes seconds."""
    monkeypatch.setattr(compiled, "Traced", Untraced)


@pytest.mark.usefixtures("uncompiled")
def test_bad_number_is_traced_by_an_eager_replay(train: Callable[..., Any], tmp_path: Path) -> None:
    x, y = np.random.default_rng(0).normal(size=(64, 3)), np.zeros((64, 1))
    y[7] = 1e38  # its square overflows
    np.savez(tmp_path / "data.npz", x=x, y=y)
    data = ["dataset=arrays", f"dataset.path={tmp_path}/data.npz", "dataset.val_fraction=0.0", "loss=mse"]
    with pytest.raises(Failed, match="from samples 7 of the training set"):
        train(*data, "trainer.engine=compiled", "batch.size=16", "duration=2ep")


def test_bad_number_that_an_eager_replay_does_not_bring_ends_the_run(
    train: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Spoilt(Untraced):
        def __call__(self, *given: Any) -> Any:
            return super().__call__(*given)._replace(losses=torch.tensor([float("nan")]))

    monkeypatch.setattr(compiled, "Traced", Spoilt)
    with pytest.raises(Failed, match="are where the same iterations run eagerly: set trainer.engine=eager"):
        train("trainer.engine=compiled", "duration=2it", "checkpoint.every=1it", f"run_dir={tmp_path}/run")
    assert not list((tmp_path / "run" / "checkpoints").glob("iteration-*"))


def test_auto_is_eager_where_the_run_is_short_and_says_so(train: Callable[..., Any], capsys: Any) -> None:
    result = train("trainer.engine=auto", "duration=1it", is_quiet=False)
    assert result["chosen"]["engine"] == "eager"
    assert "too short to pay for compiling" in capsys.readouterr().err


@pytest.mark.parametrize(("worth", "chosen", "told"), [(1e9, "compiled", "auto: compiled,"), (0, "eager", "no faster")])
def test_auto_takes_what_is_faster_by_turns(
    train: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any, worth: float, chosen: str,
    told: str,
) -> None:  # fmt: skip
    monkeypatch.setattr(engine, "WORTH_COMPILING", 1)
    monkeypatch.setattr(compiled, "Traced", Untraced)
    monkeypatch.setattr(compiled, "WORTH", worth)
    own = ["optimizer=adamw", "optimizer.lr=1e-3", "model=cnn", "model.channels=[4]", "checkpoint.every=2it"]
    timed = train("trainer.engine=auto", *own, "duration=4it", f"run_dir={tmp_path}/run", is_quiet=False)
    said = capsys.readouterr().err
    assert timed["chosen"]["engine"] == chosen and told in said and "ms eagerly" in said
    # Timing has trained nothing, and is not done again where the run goes on.
    assert timed["weights_sha256"] == train(f"trainer.engine={chosen}", *own, "duration=4it")["weights_sha256"]
    train("trainer.engine=auto", *own, "duration=6it", f"run_dir={tmp_path}/run", is_quiet=False)
    assert "ms eagerly" not in capsys.readouterr().err


class Untraceable(torch.nn.Module):
    """Looks at a number on the host."""

    def __init__(self, num_outputs: int) -> None:
        super().__init__()
        self.linear = torch.nn.Linear(64, num_outputs)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.linear(x.flatten(1))
        return y if y.sum().item() > 0 else y + 0


@pytest.mark.slow
def test_code_that_does_not_trace_is_refused_where_compiling_was_asked_for_and_eager_where_it_was_not(
    train: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.setattr(engine, "WORTH_COMPILING", 1)
    own = [f"model._target_={__name__}.Untraceable", "~model.hidden", "~model.dropout", "trust=[tests]", "duration=3it"]
    with pytest.raises(Refused, match="this run cannot be compiled"):
        train("trainer.engine=compiled", *own)
    run = train("trainer.engine=auto", *own, is_quiet=False)
    assert run["chosen"]["engine"] == "eager" and "eager, this run cannot be compiled" in capsys.readouterr().err
    assert read_sealed(newest(run.run_dir / "checkpoints")[0])["mbtrain"]["chosen"]["engine"] == "eager"
    assert run["weights_sha256"] == train("trainer.engine=eager", *own)["weights_sha256"]


class Changing(torch.nn.Module):
    """Multiplies by a factor that is another each time, or when somebody sets it."""

    made: ClassVar[list["Changing"]] = []

    def __init__(self, num_outputs: int, grows: bool) -> None:
        super().__init__()
        self.linear, self.grows, self.factor = torch.nn.Linear(64, num_outputs), grows, 1.0
        self.dropout = torch.nn.Dropout(0.5)
        self.made.append(self)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.grows:
            self.factor += 1.0
        return self.dropout(self.linear(x.flatten(1))) * self.factor


@pytest.mark.slow
def test_model_that_changes_is_refused_where_that_shows_at_once_and_fails_in_one_line_after_a_validation(
    train: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    own = [f"model._target_={__name__}.Changing", "~model.hidden", "~model.dropout", "trust=[tests]", "duration=3it"]
    own += ["trainer.engine=compiled", "validate.every=1it"]
    with pytest.raises(Refused, match="this run cannot be compiled"):
        train(*own, "+model.grows=true")
    note = Update.note

    def changing(change: Callable[[Changing], None]) -> Callable[..., None]:
        def changed(self: Update, **options: Any) -> None:
            note(self, **options)
            change(Changing.made[-1])

        return changed

    changes: list[Callable[[Changing], None]] = [
        lambda model: setattr(model, "factor", 2.0),
        lambda model: setattr(model.dropout, "p", 0.1),
    ]
    for change in changes:
        monkeypatch.setattr(Update, "note", changing(change))
        with pytest.raises(Failed, match="iteration 2: the model's code does something else than when it was compiled"):
            train(*own, "+model.grows=false")


def test_run_that_was_compiled_so_far_is_not_gone_on_with_eagerly(
    train: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Refusing(Untraced):
        def __call__(self, *given: Any) -> Any:
            raise RuntimeError("does not trace here")

    monkeypatch.setattr(engine, "WORTH_COMPILING", 1)
    own = ["trainer.engine=auto", "batch.size=200", f"run_dir={tmp_path}/run"]
    monkeypatch.setattr(compiled, "Traced", Untraced)
    monkeypatch.setattr(compiled, "WORTH", 1e9)
    assert train(*own, "duration=3it")["chosen"]["engine"] == "compiled"
    monkeypatch.setattr(compiled, "Traced", Refusing)
    with pytest.raises(Refused, match="does not trace here.: start a new run"):
        train(*own, "duration=6it")
