"""`batch.max_tokens`: no mini-batch holds more, every line comes once an epoch, and a cut run goes on."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mbtrain.plan.refused import Refused
from tests.conftest import rows
from tests.training.test_resume import check_same_run, train_with_kills

LINES = ["one", "a rather longer line", "two", "and", "some words more", "x"] * 20
OWN = ["dataset=text_lines", "model=gpt", "model.width=16", "model.depth=1", "model.heads=2", "batch.size=all"]
LIMIT = ["batch.max_tokens=60", "duration=2ep", "optimizer.lr=0.01"]


@pytest.fixture
def text(tmp_path: Path) -> list[str]:
    """Overrides that name a text of short and long lines."""
    file = tmp_path / "lines.txt"
    file.write_text("\n".join(LINES))
    return [*OWN, f"dataset.path={file}"]


def test_no_mini_batch_holds_more_tokens_and_each_line_comes_once(train: Callable[..., Any], text: list[str]) -> None:
    result = train(*text, *LIMIT)
    table = rows(result.run_dir)
    assert max(row["tokens"] for row in table) <= 60
    assert {row["batch_size"] for row in table} - {row["batch_size"] for row in table[:1]}
    per_epoch = [sum(row["batch_size"] for row in table if row["epoch"] == epoch) for epoch in (0, 1)]
    assert per_epoch[0] == per_epoch[1] == result["samples_seen"] / 2
    longest = max(map(len, LINES)) + 1
    assert [row["padding"] for row in table] == pytest.approx(
        [1 - row["tokens"] / (row["batch_size"] * longest) for row in table]
    )


def test_the_next_sample_would_not_have_fitted(train: Callable[..., Any], text: list[str]) -> None:
    table = rows(train(*text, *LIMIT, "sampler=sequential", "duration=1ep").run_dir)
    tokens = np.array([row["tokens"] for row in table])
    assert (tokens[:-1] > 60 - (max(map(len, LINES)) + 1)).all()


def test_batch_size_is_a_ceiling_besides(train: Callable[..., Any], text: list[str]) -> None:
    table = rows(train(*text, *LIMIT, "batch.size=3").run_dir)
    assert max(row["batch_size"] for row in table) == 3


def test_a_cut_run_equals_the_whole_one(train: Callable[..., Any], text: list[str], tmp_path: Path) -> None:
    own = [*text, *LIMIT, "checkpoint.every=2it", "batch.micro_size=4"]
    check_same_run(train_with_kills(train, tmp_path / "cut", [1, 6, 20], own), train(*own))


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (["batch.max_tokens=5"], "batch.max_tokens=5: the longest sample has 21 tokens: give at least 21"),
        (["batch.drop_last=true"], "batch.max_tokens=60: .* leave out batch.drop_last=true"),
        (["dataset=digits", "model=mlp"], "batch.max_tokens=60: needs a length for each sample"),
    ],
    ids=str,
)
def test_refused_in_one_line(train: Callable[..., Any], text: list[str], options: list[str], reason: str) -> None:
    own = ["batch.size=all"] if "dataset=digits" in options else text
    with pytest.raises(Refused, match=reason):
        train(*own, *LIMIT, *options)
