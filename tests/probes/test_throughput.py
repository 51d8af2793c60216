"""probe=throughput: the parts are of the iteration, warm-up is left out, speed is that of the log."""

import importlib
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import rows

RUN = ["probe=throughput", "probe.throughput.every=4it", "optimizer.clip_norm=1", "batch.micro_size=16"]
SLOW_S = 0.05
PARTS = ("time/data_s", "time/forward_backward_s", "time/update_s")


def measured(run_dir: Path) -> list[dict[str, Any]]:
    return [row for row in rows(run_dir) if "time/samples_per_s" in row]


def test_what_comes_before_the_first_measurement_is_warm_up(train: Callable[..., Any]) -> None:
    table = measured(train(*RUN, "duration=13it").run_dir)
    assert [row["iteration"] for row in table] == [8, 12]
    assert all(row["memory/peak_bytes"] > 1e7 for row in table)


def test_speed_is_samples_over_the_time_of_the_iterations_since(train: Callable[..., Any]) -> None:
    run_dir = train(*RUN, "duration=13it", "validate.every=2it", "checkpoint.every=3it").run_dir
    table = rows(run_dir)
    for row in measured(run_dir):
        window = table[row["iteration"] - 5 : row["iteration"] - 1]
        seconds = sum(one["time/iteration_s"] for one in window)
        assert row["time/samples_per_s"] == pytest.approx(sum(one["batch_size"] for one in window) / seconds, rel=1e-9)


def test_parts_are_not_more_than_the_iteration(train: Callable[..., Any]) -> None:
    for row in measured(train(*RUN, "duration=40it").run_dir):
        assert all(row[part] > 0 for part in PARTS)
        assert sum(row[part] for part in PARTS) < row["time/iteration_s"]


@pytest.mark.parametrize(
    ("owner", "name", "part", "times"),
    [
        ("mbtrain.data.sources.MemorySource", "gather", "time/data_s", 2),
        ("mbtrain.models.mlp.Mlp", "forward", "time/forward_backward_s", 2),
        ("mbtrain.training.update.Update", "set_gradient", "time/update_s", 1),
        ("mbtrain.training.update.Update", "step", "time/update_s", 1),
    ],
)
def test_a_slow_part_is_told_by_its_name(
    train: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, owner: str, name: str, part: str, times: int
) -> None:
    slowed(monkeypatch, f"{owner}.{name}")
    (row,) = measured(train(*RUN, "duration=8it", "batch.size=32").run_dir)
    assert row[part] >= times * SLOW_S
    assert all(row[other] < SLOW_S for other in PARTS if other != part)


def test_slow_logging_is_told_as_a_mean_over_iterations(
    train: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    slowed(monkeypatch, "mbtrain.training.recorder._to_host")
    # Each validation has the rows handed over: two in four iterations.
    (row,) = measured(train(*RUN, "duration=8it", "batch.size=32", "validate.every=2it").run_dir)
    assert 2 * SLOW_S / 4 <= row["time/logging_s"] < SLOW_S


def slowed(monkeypatch: pytest.MonkeyPatch, target: str) -> None:
    """Make a function of the program take SLOW_S more."""
    module, *names = _split(target)
    owner: Any = importlib.import_module(module)
    for one in names[:-1]:
        owner = getattr(owner, one)
    original = getattr(owner, names[-1])

    def slow(*args: Any, **kwargs: Any) -> Any:
        time.sleep(SLOW_S)
        return original(*args, **kwargs)

    monkeypatch.setattr(owner, names[-1], slow)


def _split(target: str) -> list[str]:
    parts = target.split(".")
    at = next(index for index, one in enumerate(parts) if one[0].isupper() or index == 3)
    return [".".join(parts[:at]), *parts[at:]]
