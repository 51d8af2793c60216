"""`trainer.threads=auto`: what is taken, that it is measured once, and that measuring leaves no trace."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson
import pytest
import torch

from mbtrain import thread_count
from mbtrain.assembly import assemble
from mbtrain.thread_count import best, with_threads
from mbtrain.training.dry_run import DryRun
from tests.composing import composed
from tests.conftest import QUIET, final_weights

AUTO = ["trainer.threads=auto", "duration=1ep"]


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A user's cache folder with nothing in it, on a machine of four cores."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(thread_count, "num_cores", lambda: 4)
    return tmp_path / "cache"


@pytest.fixture
def fastest_at(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], list[int]]:
    """Sets how many threads are fastest; gives the list of what was timed."""

    def fastest(number: int) -> list[int]:
        timed: list[int] = []

        def seconds(self: DryRun, micro_batches: Any) -> float:
            timed.append(torch.get_num_threads())
            return 0.1 if timed[-1] == number else 0.2

        monkeypatch.setattr(DryRun, "seconds", seconds)
        return timed

    return fastest


@pytest.mark.parametrize("number", [1, 2, 4])
def test_the_fastest_is_taken_and_a_resume_takes_it_again(
    train: Callable[..., Any], fastest_at: Callable[[int], list[int]], number: int
) -> None:
    timed = fastest_at(number)
    result = train(*AUTO)
    assert result["chosen"]["threads"] == number and set(timed) == {1, 2, 4}
    assembly = assemble(composed([*QUIET, *AUTO]), chosen=result["chosen"])
    assert assembly.threads == number and with_threads(assembly, result["chosen"], pytest.fail) is assembly


def test_a_shape_is_measured_once_and_another_anew(
    train: Callable[..., Any], fastest_at: Callable[[int], list[int]], cache: Path
) -> None:
    timed = fastest_at(2)
    train(*AUTO)
    count = len(timed)
    assert train(*AUTO, "seed=1")["chosen"]["threads"] == 2 and len(timed) == count
    train(*AUTO, "batch.size=16")
    assert len(timed) == 2 * count and len(list(cache.glob("mbtrain/threads/*.json"))) == 2


def test_what_was_measured_here_before_is_believed(train: Callable[..., Any], cache: Path) -> None:
    train(*AUTO)
    (file,) = cache.glob("mbtrain/threads/*.json")
    file.write_bytes(orjson.dumps({"threads": 4}))
    assert train(*AUTO, "seed=1")["chosen"]["threads"] == 4


@pytest.mark.parametrize("overrides", [[], ["optimizer=adamw", "model.dropout=0.3", "ema=1ep", "batch.micro_size=8"]])
def test_measuring_leaves_no_trace_in_the_training(
    train: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, overrides: list[str]
) -> None:
    plain = train(*overrides, "duration=1ep", "trainer.threads=1")
    # Whatever was the fastest, both train with one thread.
    monkeypatch.setattr(thread_count, "best", lambda seconds: 1)
    measured = train(*overrides, *AUTO)
    expected, found = final_weights(plain.run_dir), final_weights(measured.run_dir)
    assert all(torch.equal(one, found[name]) for name, one in expected.items())


def test_more_threads_that_are_hardly_faster_are_not_taken() -> None:
    assert best({1: 1.0, 2: 0.98, 4: 0.98}) == 1 and best({1: 1.0, 2: 0.9, 4: 2.0}) == 2
