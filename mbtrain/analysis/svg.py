"""Charts as inline SVG: colours come from the page (light and dark), hovering tells the values."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import singledispatch
from html import escape

import numpy as np

from mbtrain.analysis.charts import Array, Cell, Dots, Heat, Lines, Scale, Series, scale
from mbtrain.analysis.score import written

WIDTH, HEIGHT = 460, 280
LEFT, RIGHT, TOP, BOTTOM = 56, 12, 12, 42
# Stretches of a line chart that tell their values.
HITS = 80
ROW_HEIGHT = 28


@singledispatch
def draw(chart: object) -> str:
    """The chart as an <svg> element."""
    raise TypeError(type(chart))


@draw.register
def _lines(chart: Lines) -> str:
    x = scale(
        np.concatenate([at for one in chart.series for at in (one.x, one.lost)]),
        LEFT,
        WIDTH - RIGHT,
        is_log=chart.is_x_log,
    )
    x = replace(x, ticks=tuple(chart.x_ticks) or x.ticks)
    heights = [values for one in chart.series for values in (one.y, one.low, one.high) if values is not None]
    y = scale(np.concatenate(heights), HEIGHT - BOTTOM, TOP, is_log=chart.is_y_log)
    parts = [*_x_axis(x, HEIGHT, chart.x_label), *_y_axis(y, chart.y_label)]
    for index, one in enumerate(chart.series):
        parts += _line(one, index % 8, x, y)
    parts += _hits(chart, x, y)
    return _svg(HEIGHT, chart.title, parts)


@draw.register
def _dots(chart: Dots) -> str:
    height = TOP + BOTTOM + ROW_HEIGHT * len(chart.rows)
    label = 8 + 7.4 * min(34, max(len(row.name) for row in chart.rows))
    band = () if chart.margin is None else (-chart.margin, chart.margin)
    ends = [*band, *(value for row in chart.rows for value in (*row.values, row.mean, row.low, row.high))]
    finite = np.array([value for value in ends if np.isfinite(value) and not (chart.is_x_log and value <= 0)])
    x = scale(finite, label, WIDTH - RIGHT, is_log=chart.is_x_log, num_ticks=4)
    parts = list(_x_axis(x, height, chart.x_label))
    if chart.margin is not None:
        parts += _around_zero(x, chart.margin, height)
    for index, row in enumerate(chart.rows):
        middle = TOP + ROW_HEIGHT * (index + 0.5)
        parts.append(f'<text x="{label - 8:.0f}" y="{middle + 4:.1f}" text-anchor="end">{_cut(row.name, 34)}</text>')
        if np.isfinite(row.low):
            low, high = (float(np.clip(x(one), label, WIDTH - RIGHT)) for one in (row.low, row.high))
            parts.append(f'<line class="interval" x1="{low:.1f}" x2="{high:.1f}" y1="{middle}" y2="{middle}"/>')
        parts += [f'<circle class="seed" cx="{x(value):.1f}" cy="{middle}" r="3"/>' for value in row.values]
        parts.append(f'<circle class="mean" cx="{x(row.mean):.1f}" cy="{middle}" r="5"/>')
        parts.append(_hit(0, middle - ROW_HEIGHT / 2, WIDTH, ROW_HEIGHT, row.told))
    return _svg(height, chart.title, parts)


def _around_zero(x: Scale, margin: float, height: float) -> Iterator[str]:
    low, zero, high = (float(x(at)) for at in (-margin, 0.0, margin))
    yield f'<rect class="band c0" x="{low:.1f}" y="{TOP}" width="{high - low:.1f}" height="{height - TOP - BOTTOM}"/>'
    yield f'<line class="interval" x1="{zero:.1f}" x2="{zero:.1f}" y1="{TOP}" y2="{height - BOTTOM}"/>'


@draw.register
def _heat(chart: Heat) -> str:
    label = 24 + 7.2 * min(14, max(len(row) for row in chart.rows))
    cell_height = 38
    width = (WIDTH - RIGHT - label) / len(chart.columns)
    height = TOP + BOTTOM + cell_height * len(chart.rows)
    parts = [_y_title(chart.y_label, height)]
    for index, row in enumerate(chart.rows):
        y = TOP + cell_height * (index + 0.5) + 4
        parts.append(f'<text x="{label - 8:.1f}" y="{y:.1f}" text-anchor="end">{_cut(row, 14)}</text>')
    for index, column in enumerate(chart.columns):
        x = label + width * (index + 0.5)
        parts.append(f'<text x="{x:.1f}" y="{height - BOTTOM + 17}" text-anchor="middle">{_cut(column, 12)}</text>')
    parts.append(
        f'<text class="axis" x="{(label + WIDTH) / 2:.0f}" y="{height - 6}" text-anchor="middle">'
        f"{escape(chart.x_label)}</text>"
    )
    for cell in chart.cells:
        parts += _cell(cell, label + width * cell.column, TOP + cell_height * cell.row, width, cell_height)
    return _svg(height, chart.title, parts)


def _cell(cell: Cell, x: float, y: float, width: float, height: float) -> Iterator[str]:
    strength = 0.06 + 0.94 * (1 - cell.badness)
    yield f'<rect class="cell" x="{x + 1:.1f}" y="{y + 1}" width="{width - 2:.1f}" height="{height - 2}" rx="3" '
    yield f'fill-opacity="{strength:.2f}"/>'
    kind = "on" if strength > 0.55 else "off"
    if width > 34:
        yield f'<text class="{kind}" x="{x + width / 2:.1f}" y="{y + height / 2 + 4:.1f}" text-anchor="middle">'
        yield f"{escape(cell.written)}</text>"
    yield _hit(x, y, width, height, cell.told)


def _line(one: Series, color: int, x: Scale, y: Scale) -> Iterator[str]:
    if one.low is not None and one.high is not None:
        across = np.concatenate([one.x, one.x[::-1]])
        up_and_back = np.concatenate([one.high, one.low[::-1]])
        yield f'<path class="band c{color}" d="{_path(x(across), y(up_and_back))}Z"/>'
    yield f'<path class="line c{color}" d="{_path(x(one.x), y(one.y))}"/>'
    if one.has_dots or len(one.x) == 1:
        for across, up in zip(x(one.x), y(one.y), strict=True):
            yield f'<circle class="dot c{color}" cx="{across:.1f}" cy="{up:.1f}" r="3.5"/>'
    for across in x(one.lost):
        yield f'<path class="line c{color}" d="M{across - 4:.1f},{TOP}l8,8m0,-8l-8,8"/>'


def _path(x: Array, y: Array) -> str:
    points = [f"{a:.1f},{b:.1f}" for a, b in zip(x, y, strict=True)]
    return "M" + "L".join(points)


def _x_axis(x: Scale, height: float, label: str) -> Iterator[str]:
    for tick in x.ticks:
        at = float(x(tick))
        yield f'<line class="grid" x1="{at:.1f}" x2="{at:.1f}" y1="{TOP}" y2="{height - BOTTOM}"/>'
        yield f'<text x="{at:.1f}" y="{height - BOTTOM + 17}" text-anchor="middle">{_tick(tick)}</text>'
    middle = (x.start + x.end) / 2
    yield f'<text class="axis" x="{middle:.0f}" y="{height - 6}" text-anchor="middle">{escape(label)}</text>'


def _y_axis(y: Scale, label: str) -> Iterator[str]:
    for tick in y.ticks:
        at = float(y(tick))
        yield f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{at:.1f}" y2="{at:.1f}"/>'
        yield f'<text x="{LEFT - 6}" y="{at + 4:.1f}" text-anchor="end">{_tick(tick)}</text>'
    yield _y_title(label, HEIGHT)


def _y_title(label: str, height: float) -> str:
    middle = (TOP + height - BOTTOM) / 2
    place = f'transform="translate(11 {middle:.0f}) rotate(-90)" text-anchor="middle"'
    return f'<text class="axis" {place}>{escape(label)}</text>'


def _hits(chart: Lines, x: Scale, y: Scale) -> Iterator[str]:
    """Upright stripes, each telling every line's value nearest to its middle."""
    points = np.unique(np.concatenate([x(one.x) for one in chart.series]))
    if len(points) > HITS:
        points = np.linspace(points[0], points[-1], HITS)
    edges = np.concatenate([[x.start], (points[1:] + points[:-1]) / 2, [x.end]])
    for index, middle in enumerate(points):
        told, at = [], None
        for one in chart.series:
            across = x(one.x)
            nearest = int(np.abs(across - middle).argmin())
            if abs(across[nearest] - middle) <= max(middle - edges[index], edges[index + 1] - middle) + 1:
                at = one.x[nearest] if at is None else at
                told.append(_told(one, nearest))
        if told and at is not None:
            head = f"{chart.x_label} {written(float(at))}"
            yield _hit(
                edges[index], TOP, edges[index + 1] - edges[index], HEIGHT - BOTTOM - TOP, "\n".join([head, *told])
            )


def _told(one: Series, index: int) -> str:
    band = ""
    if one.low is not None and one.high is not None and one.low[index] != one.high[index]:
        band = f"  ({written(float(one.low[index]))} to {written(float(one.high[index]))})"
    return f"{one.name}: {written(float(one.y[index]))}{band}"


def _hit(x: float, y: float, width: float, height: float, told: str) -> str:
    place = f'x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}"'
    return f'<rect class="hit" {place}><title>{escape(told)}</title></rect>'


def _tick(value: float) -> str:
    if value and (abs(value) >= 1e6 or abs(value) < 1e-3):
        return f"{value:.0e}".replace("e-0", "e-").replace("e+0", "e")
    return f"{value / 1000:g}k" if abs(value) >= 10_000 else f"{value:g}"


def _cut(text: str, length: int) -> str:
    return escape(text if len(text) <= length else text[: length - 1] + "…")


def _svg(height: float, title: str, parts: Sequence[str]) -> str:
    head = f'<svg viewBox="0 0 {WIDTH} {height:.0f}" role="img" aria-label="{escape(title)}">'
    return head + "".join(parts) + "</svg>"
