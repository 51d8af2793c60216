"""The table at the end of a sweep: each job with its state, scores and seconds, then the last line of each failure."""

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

from mbtrain.log.status import read_status
from mbtrain.study.folder import assignment, result_of, state_of
from mbtrain.study.jobs import Job

STYLES = {"done": "green", "failed": "red", "killed": "red"}


def show(jobs: Sequence[Job], varied: Sequence[str], console: Console) -> None:
    """Print the table, and below it a line for each failure."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("job", overflow="fold")
    table.add_column("state", no_wrap=True)
    results = [result_of(job) for job in jobs]
    columns = [_named([score_of(result, part) for result in results], part) for part in ("val", "test")]
    for name in (*(name for name, _ in columns), "seconds"):
        table.add_column(name, justify="right", no_wrap=True)
    for job, result, *scores in zip(jobs, results, *(cells for _, cells in columns), strict=True):
        state, seconds = state_of(job), f"{result['seconds']:.1f}" if result else ""
        table.add_row(label(job, varied), f"[{STYLES.get(state, 'yellow')}]{state}[/]", *scores, seconds)
    console.print(table)
    for job in jobs:
        if state_of(job) in ("failed", "killed"):
            console.print(f"{label(job, varied)}: {message_of(job)}", highlight=False, markup=False, soft_wrap=True)


def label(job: Job, varied: Sequence[str]) -> str:
    """What tells a job from the others: the keys that vary, with its values."""
    given = dict(assignment(one) for one in job.overrides)
    return " ".join(f"{key}={given[key]}" for key in varied if key in given) or job.name


def _named(scores: Sequence[str], part: str) -> tuple[str, Sequence[str]]:
    """The head of a column of scores and its cells: the score's name, where all have the same.

    >>> _named(["val/loss 0.25", "", "val/loss 0.5"], "val")
    ('val/loss', ['0.25', '', '0.5'])
    """
    names = {score.split(" ")[0] for score in scores if score}
    return (names.pop(), [score.split(" ")[-1] for score in scores]) if len(names) == 1 else (part, scores)


def score_of(result: Mapping[str, Any], part: str) -> str:
    """The accuracy of a part of the data where there is one, else the loss, with its name.

    >>> score_of({"val/loss": 0.25, "val/accuracy": 0.5}, "val")
    'val/accuracy 50.00%'
    """
    if isinstance(accuracy := result.get(f"{part}/accuracy"), float):
        return f"{part}/accuracy {accuracy:.2%}"
    loss = result.get(f"{part}/loss")
    return f"{part}/loss {loss:.4f}" if isinstance(loss, float) else ""


def message_of(job: Job) -> str:
    """What its status says of a failure."""
    status = read_status(job.folder)
    return (status or {}).get("message") or "nothing was said"
