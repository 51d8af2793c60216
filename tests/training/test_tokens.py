"""Promises 2 and 7 for samples of different length, in float64: every token that counts weighs the same."""

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn import functional as F

from mbtrain.assembly import Assembly, assemble
from mbtrain.core.gradient import mean_gradient
from mbtrain.losses.contract import losses_of
from tests.composing import composed
from tests.conftest import QUIET, final_weights, relative_difference, rows

SPLITS = [1, 5, 7, 16, 99]


@pytest.fixture
def lines(tmp_path: Path) -> list[str]:
    """Overrides for a small decoder on lines of 1 to 20 characters."""
    draw = random.Random(0)
    text = "".join("".join(draw.choices("abc de", k=draw.randint(1, 20))).strip() + "x\n" for _ in range(200))
    (tmp_path / "lines.txt").write_text(text)
    own = ["dataset=text_lines", f"dataset.path={tmp_path}/lines.txt", "model=gpt", "model.width=16", "model.depth=1"]
    return [*own, "trainer.precision=64-true", "optimizer.lr=0.05", "batch.size=30"]


def one_pass(parts: Assembly, indices: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, tuple[torch.Tensor, ...]]:
    """Loss, number of tokens and gradient by torch's own mean over the tokens that count."""
    x, y = parts.data.train.gather(indices)
    loss = F.cross_entropy(parts.model(x), y, ignore_index=-100)
    return loss.detach(), (y != -100).sum(), torch.autograd.grad(loss, list(parts.model.parameters()))


@pytest.mark.parametrize("micro_size", SPLITS)
def test_gradient_is_the_mean_over_tokens_whatever_the_split(lines: list[str], micro_size: int) -> None:
    parts = assemble(composed([*QUIET, *lines]), chosen={})
    indices = torch.arange(33)
    loss, tokens, gradient = one_pass(parts, indices)

    def evaluate(places: torch.Tensor) -> Any:
        x, y = parts.data.train.gather(places)
        return losses_of(parts.loss, parts.model(x), y)

    micro = indices.split(micro_size)
    mine = mean_gradient(micro, evaluate, list(parts.model.parameters()), num_micro_batches=len(micro))
    assert float(mine.loss) == pytest.approx(float(loss), rel=1e-12) and float(mine.weight) == int(tokens)
    for one, other in zip(mine.gradient, gradient, strict=True):
        assert one is not None and relative_difference(one, other) <= 1e-12


def test_lines_differ_in_length(lines: list[str]) -> None:
    lengths = (assemble(composed([*QUIET, *lines]), chosen={}).data.train.y != -100).sum(1)
    assert len(lengths.unique()) > 10


@pytest.mark.parametrize("micro_size", SPLITS)
def test_split_of_padded_lines_changes_nothing(train: Callable[..., Any], lines: list[str], micro_size: int) -> None:
    mine, whole = (train(*lines, "duration=3ep", *extra) for extra in ([f"batch.micro_size={micro_size}"], []))
    for name, value in final_weights(whole.run_dir).items():
        assert relative_difference(final_weights(mine.run_dir)[name], value) <= 1e-9, name
    for one, other in zip(rows(mine.run_dir), rows(whole.run_dir), strict=True):
        assert one["train/loss"] == pytest.approx(other["train/loss"], rel=1e-9)
        assert one["train/accuracy"] == other["train/accuracy"]


def test_padding_more_changes_nothing(lines: list[str]) -> None:
    """What stands behind a line's end reaches neither loss nor gradient."""
    parts = assemble(composed([*QUIET, *lines]), chosen={})
    x, y = parts.data.train.gather(torch.arange(20))
    changed = torch.where(y == -100, torch.randint(3, y.shape), x)

    def gradient(ids: torch.Tensor) -> tuple[torch.Tensor, ...]:
        values, weights = losses_of(parts.loss, parts.model(ids), y)
        assert weights is not None
        return torch.autograd.grad(values.sum() / weights.sum(), list(parts.model.parameters()))

    for one, other in zip(gradient(x), gradient(changed), strict=True):
        assert relative_difference(one, other) <= 1e-12


def test_rows_tell_the_mean_over_tokens(train: Callable[..., Any], lines: list[str]) -> None:
    result = train(*lines, "duration=1ep", "optimizer.lr=0", "batch.micro_size=4")
    parts = assemble(composed([*QUIET, *lines]), chosen={})
    sums, tokens = 0.0, 0
    for index, row in enumerate(rows(result.run_dir)):
        iteration = parts.plan.iteration(index)
        indices = torch.from_numpy(parts.order(0)[iteration.start : iteration.start + iteration.size])
        loss, count, _ = one_pass(parts, indices)
        assert row["train/loss"] == pytest.approx(float(loss), rel=1e-12)
        x, y = parts.data.train.gather(indices)
        hits = (parts.model(x).argmax(1) == y).sum()  # no output is -100
        assert row["train/accuracy"] == pytest.approx(int(hits) / int(count), rel=1e-12)
        sums, tokens = sums + float(loss) * int(count), tokens + int(count)
    assert rows(result.run_dir, "epochs")[0]["train/loss"] == pytest.approx(sums / tokens, rel=1e-12)


def test_validation_is_the_mean_over_tokens(train: Callable[..., Any], lines: list[str]) -> None:
    result = train(*lines, "duration=1it", "optimizer.lr=0", "validate.batch_size=7")
    parts = assemble(composed([*QUIET, *lines]), chosen={})
    validation = parts.data.validation
    assert validation is not None
    x, y = validation.slice(0, len(validation))
    output = parts.model(x)
    assert result["val/loss"] == pytest.approx(float(F.cross_entropy(output, y).detach()), rel=1e-12)
    assert result["val/accuracy"] == pytest.approx(float((output.argmax(1) == y)[y != -100].double().mean()), rel=1e-12)
