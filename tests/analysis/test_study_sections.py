"""What stands beside a study's contrasts: the range of rates that serve, and what diverged."""

import math

import pytest

from mbtrain.analysis.charts import Lines
from mbtrain.analysis.study_sections import sensitivity_section, usable


def test_range_of_rates_that_serve_has_no_gap() -> None:
    tried = [(0.1, 0.41), (0.2, 0.6), (0.4, 0.43), (0.8, 0.4), (1.6, 0.43), (3.2, 0.41), (6.4, None)]
    found = usable(tried)
    assert found is not None and not found.is_open and 0.2 < found.low < 0.4 and found.high == 3.2


def test_range_ends_where_the_loss_crosses_whatever_the_grid() -> None:
    # A parabola in log rate around .1: 10 % above its least at a factor of 10 ** sqrt(.1) on either side.
    def loss(rate: float) -> float:
        return 1 + math.log10(rate / 0.1) ** 2

    for step in (1.1, 1.3):
        tried = [(rate, loss(rate)) for rate in (0.1 * step**power for power in range(-12, 13))]
        found = usable(tried)
        assert found is not None and found.high / found.low == pytest.approx(10 ** (2 * math.sqrt(0.1)), rel=0.02)


def test_range_that_the_grid_cuts_is_at_least_so_wide() -> None:
    found = usable([(0.1, 0.6), (0.2, 0.41), (0.4, 0.4)])
    assert found is not None and found.is_open
    tuning = {"b8": [[0.1, 0.6], [0.2, 0.41], [0.4, 0.4]], "b16": [[0.1, None]]}
    case = {"tuning": tuning, "is_inside": dict.fromkeys(tuning, False), "rates": {"b8": 0.4, "b16": 0.1}}
    chosen, table = sensitivity_section({"cases": {"digits": case}}).tables
    assert [row[2].key for row in chosen.rows] == [0.4, 0.1]
    assert table.rows[0][4].text.startswith("at least 2") and table.rows[1][4].text == ""


def test_rate_that_diverged_is_a_cross_and_ends_the_range_before_it() -> None:
    case = {"tuning": {"b8": [[0.1, 0.4], [0.2, None], [0.4, 0.41]]}, "is_inside": {"b8": True}, "rates": {"b8": 0.1}}
    section = sensitivity_section({"cases": {"digits": case}})
    chart = section.panels[0].charts[0]
    assert isinstance(chart, Lines)
    (line,) = chart.series
    assert line.lost.tolist() == [0.2] and line.x.tolist() == [0.1, 0.4]
    found = usable(case["tuning"]["b8"])
    assert found is not None and found.high == 0.1
