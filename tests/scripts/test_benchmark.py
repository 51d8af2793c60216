"""scripts/benchmark.py: pairs side by side, and the script from end to end on as little as it takes."""

import json
import os
import sys
import time
import warnings
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "scripts"))

import benchmark  # noqa: E402
from timing.check import compared  # noqa: E402
from timing.child import Child, Mark, answered, in_turns, side_by_side  # noqa: E402
from timing.long import Sample, by_rows  # noqa: E402
from timing.record import Record  # noqa: E402
from timing.span import Note, Seconds  # noqa: E402

QUICK = ("--quick", "--rounds", "1", "--seconds", "0.1", "--samples", "320")


def measured(*arguments: object) -> int:
    # Those of torch.compile's own imports are no fault of the script.
    warnings.simplefilter("ignore")
    benchmark.main([str(one) for one in arguments])
    return 0


def counting(work: int):
    """A peer whose iteration is a count to `work`."""

    def train(note: Note) -> None:
        for done in range(0, sys.maxsize, 10):
            note(done)
            for _ in range(10 * work):
                pass

    return train


def test_side_by_side_sees_the_work_and_not_the_machine():
    core = max(os.sched_getaffinity(0))
    one, two = side_by_side(counting(20_000), counting(30_000), seconds=0.4, core=core)
    assert two.cpu / one.cpu == pytest.approx(1.5, rel=0.1)


@pytest.mark.parametrize("is_turned", [False, True])
def test_in_turns_sees_the_work_of_each(is_turned: bool):
    core, peers = max(os.sched_getaffinity(0)), [counting(5_000), counting(50_000)]
    one, two = in_turns(*(peers[::-1] if is_turned else peers), seconds=0.4, core=core)
    # Ten times the work; the tests run beside each other, so that no more can be said of times.
    more, less = (one, two) if is_turned else (two, one)
    assert more.cpu > 4 * less.cpu


def test_time_of_an_iteration_lies_between_marks_by_straight_lines():
    child = Child(lambda note: time.sleep(60), core=None)
    child.marks = [Mark(0, Seconds(0.0, 0.0)), Mark(10, Seconds(1.0, 0.5)), Mark(40, Seconds(3.0, 1.5))]
    child.turns = [0.0, 1.0, 2.0]
    child.stop()
    # Paused for a second: 5 of the first ten, all of the thirty, in 1.5 s of its own and 1.25 s of CPU time.
    assert child.per_iteration(0.5, 3.0) == pytest.approx((1.5 / 35, 1.25 / 35))


def test_peer_that_ends_by_itself_is_an_error():
    with pytest.raises(RuntimeError, match="a peer ended"):
        answered(lambda: 1 // 0)


def test_record_keeps_the_peers_that_are_not_measured_again(tmp_path):
    record = Record(None)
    record.add("loops", {"tiny32": {"peers": {"ours": {"cpu": 1}, "(a')": {"cpu": 2}}}}, {"date": "then"})
    record.add("loops", {"tiny32": {"peers": {"ours": {"cpu": 3}}}}, {"date": "now"})
    peers = record.tables["loops"]["tiny32"]["peers"]
    assert peers["ours"] == {"cpu": 3, "circumstances": {"date": "now"}}
    assert peers["(a')"] == {"cpu": 2, "circumstances": {"date": "then"}}


def loops(*ratios: float) -> dict:
    row = {"cpu": {"ratio": sorted(ratios)[len(ratios) // 2], "ratios": list(ratios)}}
    return {"tiny32": {"peers": {"ours": row}}}


@pytest.mark.parametrize(
    ("now", "verdict"),
    [
        ((0.87, 0.88, 0.89), "as recorded"),  # within 0.03, the spreads of both
        ((0.92, 0.93, 0.94), "slower"),
        ((0.74, 0.75, 0.76), "faster"),
    ],
)
def test_check_tells_what_moved_by_more_than_the_spread_of_both(now, verdict):
    (found,) = compared(loops(0.84, 0.86, 0.88), loops(*now))
    assert found.line().endswith(verdict)


def test_rows_cost_what_the_run_took_between_them():
    # Rows of 10 bytes; 100 rows at 1 s, 1,000 at 2 s, the last of 4,000 at 8 s.
    samples = [Sample(0, 0.0, 1), Sample(1_000, 1.0, 2), Sample(10_000, 2.0, 3_000_000), Sample(40_000, 8.0, 4_000_000)]
    assert by_rows(samples, [10 * (row + 1) for row in range(4_000)]) == [
        {"rows": 1_000, "us": pytest.approx(1e6 / 900, abs=0.1), "resident_mb": 3},
        {"rows": 4_000, "us": 2_000.0, "resident_mb": 4},
    ]


def test_unknown_case_is_refused_in_one_line(forked):
    code, said = forked(lambda: measured("--quick", "--cases", "huge")).ended()
    assert code == 1
    assert said.startswith("--cases huge: no such case") and said.count("\n") == 1


@pytest.mark.slow
def test_record_and_page_have_what_was_measured(forked, tmp_path):
    arguments = (*QUICK, "--cases", "tiny32", "--peers", "(a')", "ours", "Lightning, self.log, CSV", "--out", tmp_path)
    code, said = forked(lambda: measured(*arguments)).ended()
    assert code == 0, said
    case = json.loads((tmp_path / "results.json").read_text())["loops"]["tiny32"]
    assert set(case["peers"]) == {"(a')", "ours", "Lightning, self.log, CSV"}
    # The direct kernel leaves the weights of torch.optim bit for bit.
    assert case["is_bit_equal"] is True
    ours = case["peers"]["ours"]
    assert ours["circumstances"]["versions"]["torch"] and len(ours["cpu"]["ratios"]) == 1
    assert f"| ours | tiny 32 | <= 0.85 | **{ours['cpu']['ratio']:.2f}**" in (tmp_path / "README.md").read_text()
