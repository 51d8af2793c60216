"""The report as text: one HTML page that needs nothing else, Markdown, and the table of all runs."""

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from mbtrain.analysis import svg
from mbtrain.analysis.charts import Chart, Lines
from mbtrain.analysis.experiment import SEED, Experiment, given, text
from mbtrain.analysis.section import Section

TEMPLATES = "mbtrain.analysis"


@dataclass(frozen=True)
class Page:
    """All that a report says; `reload_s` makes the page look again after that many seconds, 0 never."""

    title: str
    subtitle: str
    lead: Sequence[str]
    sections: Sequence[Section]
    notes: Sequence[str] = ()
    reload_s: int = 0

    @property
    def pictures(self) -> list[Chart]:
        """The charts that become PNG files: of a choice of axes, the first."""
        return [panel.charts[0] for one in self.sections for panel in one.panels]


def html(page: Page) -> str:
    """The page, with styles and script inside; every text in it is escaped by the template."""
    return _environment().get_template("report.html").render(page=page)


def markdown(page: Page) -> str:
    """The same in Markdown, with the pictures of `figures/`."""
    return _environment().get_template("report.md").render(page=page)


def results_csv(experiment: Experiment) -> str:
    """A line a run: folder, status, message, levels, seed, and every number of its result."""
    numbers = dict.fromkeys(
        key for run in experiment.runs for key, value in run.result.items() if isinstance(value, int | float | None)
    )
    names = [factor.name for factor in experiment.factors]
    file = io.StringIO()
    table = csv.writer(file, lineterminator="\n")
    table.writerow(["run", "sweep", "status", "message", *names, SEED, *numbers])
    for run in experiment.runs:
        levels = [factor.level_of[run.folder] for factor in experiment.factors]
        seed = given(run.overrides).get(SEED, text(run.config.get(SEED)))
        values = ["nan" if run.result.get(key, "") is None else run.result.get(key, "") for key in numbers]
        table.writerow([run.folder, run.group, run.status, run.message, *levels, seed, *values])
    return file.getvalue()


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader(TEMPLATES),
        autoescape=lambda name: name is not None and name.endswith(".html"),
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
    )
    environment.filters |= {"svg": _svg, "cell": _cell, "is_lines": lambda chart: isinstance(chart, Lines)}
    environment.globals["asset"] = _asset
    return environment


def _svg(chart: Chart) -> Markup:
    # svg escapes the words of a chart itself.
    return Markup(svg.draw(chart))


def _asset(name: str) -> Markup:
    return Markup((files(TEMPLATES) / "templates" / name).read_text(encoding="utf-8"))


def _cell(words: str) -> str:
    r"""Words that stay inside a field of a Markdown table and make no markup.

    >>> _cell("a|b <script>")
    'a\\|b &lt;script>'
    """
    for mark in "\\`*_[]|#":
        words = words.replace(mark, f"\\{mark}")
    return " ".join(words.replace("&", "&amp;").replace("<", "&lt;").split())
