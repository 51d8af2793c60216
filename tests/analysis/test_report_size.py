"""What a report of many or long runs takes: time, memory, size (on made-up logs)."""

import resource
from pathlib import Path

import pytest

from scripts.report_timing import make_run, make_sweep, timed


def taken(folder: Path) -> tuple[float, float]:
    """CPU seconds, which a busy machine hardly lengthens, and memory in bytes."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    _, peak = timed(folder)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, peak


@pytest.mark.slow
def test_two_hundred_runs_take_seconds_and_a_small_page(tmp_path: Path) -> None:
    make_sweep(tmp_path / "sweep", num_runs=200, num_iterations=2000)
    seconds, peak = taken(tmp_path / "sweep")
    assert seconds < 15 and peak < 1e9
    assert (tmp_path / "sweep" / "report.html").stat().st_size < 4e6


@pytest.mark.slow
def test_a_million_iterations_take_seconds_and_little_memory(tmp_path: Path) -> None:
    make_run(tmp_path / "run", num_iterations=1_000_000, lr=0.1, batch_size=32, seed=0)
    seconds, peak = taken(tmp_path / "run")
    assert seconds < 30 and peak < 1e9
    assert (tmp_path / "run" / "report.html").stat().st_size < 4e6
