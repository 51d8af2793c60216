"""A study at one look: known losses, known shares."""

from typing import Any

import pytest

from mbtrain.analysis import svg
from mbtrain.analysis.charts import Dots
from mbtrain.analysis.comparisons import Contrast
from mbtrain.analysis.decision import decide
from mbtrain.analysis.overview import overview

STEP, GATHERED, DIRECT = [1.0, 2.0, 3.0], [2.0, 3.0, 4.0], [2.0, 3.0, 4.0]


def contrast(case: str, arm: str, against: str, budget: str = "time") -> Contrast:
    losses = {"step": STEP, "gathered": GATHERED, "direct": DIRECT}
    return Contrast(case, budget, arm, against, losses, decide(losses[arm], losses[against], margin=0.1), False)


@pytest.fixture
def study() -> dict[str, Any]:
    primary, named = {"arm": "gathered", "against": "step"}, [{"arm": "gathered", "against": "direct"}]
    cases = {"mlp": {}, "cnn": {}}
    return {"cases": cases, "budget": "time", "margin": 0.02, "primary": primary, "contrasts": named}


def test_differences_are_per_cent_of_the_other_arms_loss(study: dict[str, Any]) -> None:
    found = [contrast(case, "gathered", "step", budget) for case in study["cases"] for budget in ("time", "samples")]
    section = overview(study, [*found, *(contrast(case, "gathered", "direct") for case in study["cases"])])
    assert section is not None
    primary, named = section.panels
    assert primary.names == ["equal time", "equal samples"] and named.names == ["gathered against direct"]
    chart = primary.charts[0]
    assert isinstance(chart, Dots) and [row.name for row in chart.rows] == ["mlp", "cnn"]
    assert chart.rows[0].mean == pytest.approx(50) and chart.margin == pytest.approx(2)
    assert chart.rows[0].high - chart.rows[0].mean == pytest.approx(chart.rows[0].mean - chart.rows[0].low)
    # The band of what counts as equal, and zero in its middle.
    assert svg.draw(chart).count('class="band c0"') == 1


def test_one_case_needs_no_overview(study: dict[str, Any]) -> None:
    assert overview({**study, "cases": {"mlp": {}}}, [contrast("mlp", "gathered", "step")]) is None
