"""Charts: scales, what is drawn, what hovering tells."""

import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mbtrain.analysis import png, svg
from mbtrain.analysis.charts import Cell, Chart, DotRow, Dots, Heat, Lines, Series, scale

EVIL = '<script>alert("$x^{")</script>'
NAN = float("nan")


def lines(name: str = "loss", **options: Any) -> Lines:
    x = np.arange(1.0, 21.0)
    return Lines("file", name, name, name, [Series(name, x, 1 / x, 0.5 / x, 2 / x, has_dots=True)], **options)


def every_kind(name: str) -> list[Chart]:
    rows = [DotRow(name, [1.0, 2.0], 1.5, -4.0, 7.0, name), DotRow(name, [1.0], 1.0, NAN, NAN, name)]
    dots = Dots("dots", name, name, rows)
    heat = Heat(
        "heat", name, name, name, ["1", name], [name], [Cell(0, 0, "0.5", name, 0.0), Cell(1, 0, "1", name, 1.0)]
    )
    return [lines(name), dots, heat]


@pytest.mark.parametrize("is_log", [False, True])
def test_a_scale_maps_its_values_inside_in_order(is_log: bool) -> None:
    values = np.array([0.01, 0.3, 7.0])
    made = scale(values, 0, 100, is_log=is_log)
    pixels = made(values)
    assert (np.diff(pixels) > 0).all() and pixels[0] >= 0 and pixels[-1] <= 100
    assert len(made.ticks) >= 3 and all(made.low <= tick <= made.high for tick in made.ticks)


@pytest.mark.parametrize("value", [0.0, 1.0, -3.0, 1e-12, 1e9])
def test_a_single_value_has_a_scale(value: float) -> None:
    made = scale(np.array([value]), 0, 100, is_log=False)
    assert 0 <= float(made(value)) <= 100 and made.ticks


def test_names_are_text_in_every_drawing() -> None:
    for chart in every_kind(EVIL):
        drawn = svg.draw(chart)
        assert "<script" not in drawn
        assert any(EVIL in (one.text or "") for one in ElementTree.fromstring(drawn).iter())


def test_hovering_tells_the_value_and_its_band() -> None:
    told = [one.text or "" for one in ElementTree.fromstring(svg.draw(lines())).iter("title")]
    assert len(told) == 20 and told[3] == "loss 4\nloss: 0.25  (0.125 to 0.5)"


def test_lines_stay_inside_the_drawing() -> None:
    drawn = ElementTree.fromstring(svg.draw(lines(is_x_log=True, is_y_log=True)))
    for path in drawn.iter("path"):
        points = np.array([one.split(",") for one in path.attrib["d"].strip("MZ").split("L")], dtype=float)
        assert (points >= 0).all() and (points <= [svg.WIDTH, svg.HEIGHT]).all()


def test_pictures_are_written_for_every_kind(tmp_path: Path) -> None:
    paths = png.save([*every_kind(EVIL + " 学习"), lines(is_x_log=True, is_y_log=True)], tmp_path)
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in paths)


def test_what_has_no_value_is_a_cross_inside_the_drawing() -> None:
    x = np.array([1.0, 2.0])
    drawn = svg.draw(Lines("file", "t", "x", "y", [Series("a", x, x, lost=np.array([8.0]))], is_x_log=True))
    paths = [one.attrib["d"] for one in ElementTree.fromstring(drawn).iter("path")]
    (cross,) = [one for one in paths if "l" in one]
    assert float(paths[0].split("L")[1].split(",")[0]) < float(cross[1:].split(",")[0]) < svg.WIDTH - 4
