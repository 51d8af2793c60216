"""The report of runs and sweeps: `report.html` in the first folder; report.md, results.csv and figures beside it."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from mbtrain.analysis import run_sections, sweep_sections
from mbtrain.analysis.curves import Logs
from mbtrain.analysis.experiment import Experiment, experiment
from mbtrain.analysis.findings import conclude
from mbtrain.analysis.page import Page, html, markdown, results_csv
from mbtrain.analysis.runs import Found, find
from mbtrain.analysis.score import Score, chosen
from mbtrain.analysis.sentences import lead, lead_of_run

HTML, BESIDE = "report.html", "report"
# Damaged files that are told one by one.
MOST_NOTES = 20


def write_report(folders: Sequence[Path], *, by: str | None = None, with_pictures: bool = True) -> Path:
    """Look at runs and sweeps and write what they show; the path of report.html.

    `by` is the score that compares runs (`val/loss` where they have it). Raises Refused where a folder holds no run.
    """
    found = find(folders)
    whole = experiment(found, chosen(by, found.runs))
    page = make_page(found, whole, Logs())
    beside = folders[0] / BESIDE
    beside.mkdir(exist_ok=True)
    _replace(beside / "results.csv", results_csv(whole))
    _replace(beside / "report.md", markdown(page))
    if with_pictures:
        from mbtrain.analysis import png

        png.save(page.pictures, beside / "figures")
    _replace(folders[0] / HTML, html(page))
    return folders[0] / HTML


def make_page(found: Found, whole: Experiment, logs: Logs, *, reload_s: int = 0) -> Page:
    """The page of what was found: of a single run, or of many."""
    if len(found.runs) == 1:
        (run,) = found.runs
        told, sections, title = lead_of_run(run, whole.score), run_sections.sections(run, logs), run.name
        subtitle = f"one run, {run.status}"
    else:
        findings = conclude(whole)
        told, sections = lead(findings), sweep_sections.sections(findings, logs)
        if len(found.groups) > 1:
            sections.insert(0, sweep_sections.compared(_groups(found, whole.score)))
        title, subtitle = ", ".join(found.groups), _counts(found)
    return Page(title, subtitle, told, sections, _notes([*found.notes, *logs.damage()]), reload_s)


def _groups(found: Found, score: Score) -> list[tuple[str, Experiment]]:
    """Each sweep by itself."""
    parts = [replace(found, runs=[run for run in found.runs if run.group == name]) for name in found.groups]
    return [(name, experiment(one, score)) for name, one in zip(found.groups, parts, strict=True)]


def _counts(found: Found) -> str:
    """So many runs, by status.

    >>> _counts(Found())
    '0 runs'
    """
    statuses = [run.status for run in found.runs]
    parts = [f"{statuses.count(one)} {one}" for one in dict.fromkeys(statuses)]
    return ": ".join([f"{len(statuses)} runs", ", ".join(parts)]) if parts else "0 runs"


def _notes(notes: Sequence[str]) -> list[str]:
    more = len(notes) - MOST_NOTES
    return [*notes[:MOST_NOTES], *([f"and {more} more"] if more > 0 else [])]


def _replace(path: Path, text: str) -> None:
    """Write in one step, so that a browser never meets half a page."""
    beside = path.with_name(f".{path.name}.tmp")
    # A file name that is no Unicode is shown with question marks.
    beside.write_text(text, encoding="utf-8", errors="replace")
    beside.replace(path)
