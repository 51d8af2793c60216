"""What a person sees of advice: the ways side by side, the recommendation, the command."""

import math

from rich.console import Console
from rich.table import Table

from mbtrain.analysis.accumulation import Way
from mbtrain.analysis.advice import Advice
from mbtrain.analysis.advice_words import answer, command_line, sentences


def show(advice: Advice, console: Console) -> None:
    """Print each batch size at once and in its fastest micro-batches, the answer, what it rests on, the command."""
    console.print(_table(advice))
    for line in (answer(advice), *sentences(advice)):
        console.print(line, highlight=False, markup=False, soft_wrap=True)
    if advice.verdict is not None:
        console.print(command_line(advice), style="bold", highlight=False, markup=False, soft_wrap=True)


def _table(advice: Advice) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    is_gpu = advice.measured["timing"]["device"] != "cpu"
    names = ["update", "ms", "us a sample", "MB held" if is_gpu else "MB kept"]
    for name in (*names, "times the best:", ""):
        table.add_column(name, justify="left" if name == "update" else "right", no_wrap=True)
    critical = advice.critical
    if critical is not None:
        table.columns[-2].header = f"B_crit {critical.low:,.0f}"
        table.columns[-1].header = f"{critical.high:,.0f}" if math.isfinite(critical.high) else "unbounded"
    for way in _shown(advice):
        losses = advice.losses(way)
        numbers = (1e3 * way.seconds, 1e6 * way.seconds / way.batch_size, advice.bytes_of(way) / 1e6)
        cells = [f"{one:,.3g}" if one < 100 else f"{one:,.0f}" for one in numbers]
        is_advised = advice.verdict is not None and way == advice.verdict.advised
        style = "bold green" if is_advised else None
        table.add_row(str(way), *cells, *(f"{one:.2f}" for one in losses or ()), style=style)
    return table


def _shown(advice: Advice) -> list[Way]:
    shown = []
    for size in dict.fromkeys(way.batch_size for way in advice.ways):
        own = [way for way in advice.ways if way.batch_size == size]
        shown += [way for way in own if not way.is_accumulated]
        accumulated = [way for way in own if way.is_accumulated]
        if accumulated:
            shown.append(min(accumulated, key=lambda way: way.seconds))
    return shown
