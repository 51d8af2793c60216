"""What a person sees while it trains: a bar on a terminal, a line an epoch elsewhere."""

import sys
import time
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Column

from mbtrain.plan.run import RunPlan

REFRESH_SECONDS, LINE_SECONDS = 0.5, 5.0
# Columns of a terminal on which the validation's results find room beside the rest.
WIDE = 106


class ProgressBar:
    """An observer of the log's writer: works in its thread, from rows that are written already."""

    def __init__(self, plan: RunPlan, console: Console) -> None:
        self._plan, self._console = plan, console
        self._is_live = console.is_terminal
        self._drawn_at = self._line_at = 0.0
        self._validation = ""
        self._bar = Progress(
            TextColumn("epoch {task.fields[epoch]}"),
            # On a narrow terminal the bar is what gives way.
            BarColumn(bar_width=None),
            MofNCompleteColumn(table_column=Column(no_wrap=True)),
            TextColumn("{task.fields[rate]}"),
            TimeRemainingColumn(compact=True, table_column=Column(no_wrap=True)),
            TextColumn("left"),
            TextColumn("{task.fields[scores]}"),
            console=console,
            auto_refresh=False,
            transient=True,
            expand=True,
        )
        self._task = self._bar.add_task(
            "", total=plan.num_iterations if plan.is_counted else None, epoch=f"1/{plan.num_epochs}", rate="", scores=""
        )

    def start(self) -> None:
        """Show the bar."""
        if self._is_live:
            self._bar.start()

    def stop(self) -> None:
        """Take the bar away."""
        if self._is_live:
            self._bar.stop()

    def __call__(self, kind: str, rows: list[dict[str, Any]]) -> None:
        """Look at rows that were just written."""
        now = time.monotonic()
        if kind == "epoch":
            self._note_epoch(rows[-1], now)
        elif self._is_live and now - self._drawn_at >= REFRESH_SECONDS:
            self._draw(rows[-1])
            self._drawn_at = now

    def _note_epoch(self, row: dict[str, Any], now: float) -> None:
        self._validation = _scores(row, "val/")
        is_last = row["iteration"] >= self._plan.num_iterations
        if not self._is_live and (is_last or now - self._line_at >= LINE_SECONDS):
            self._line_at = now
            epoch = f"epoch {row['epoch'] + 1}/{self._plan.num_epochs}"
            text = f"{epoch}  iteration {row['iteration']:,}  {_scores(row, 'train/')}  {self._validation}"
            print(text.rstrip(), file=sys.stderr, flush=True)

    def _draw(self, row: dict[str, Any]) -> None:
        seconds = row["time/elapsed_s"]
        rate = row["samples_seen"] / seconds if seconds > 0 else 0.0
        loss = row["train/loss"]
        shown = "loss not finite" if loss is None else f"loss {loss:.4f}"
        self._bar.update(
            self._task,
            completed=row["iteration"],
            epoch=f"{row['epoch'] + 1}/{self._plan.num_epochs}",
            rate=f"{rate:,.0f} samples/s",
            scores=f"{shown}  {self._validation}" if self._console.width >= WIDE else shown,
        )
        self._bar.refresh()


def _scores(row: dict[str, Any], prefix: str) -> str:
    names = [name for name in row if name.startswith(prefix)][:2]
    return "  ".join(f"{name} {row[name]:.4f}" for name in names if row[name] is not None)
