"""The page of advice: the recommendation, every way with its time and memory, what it rests on."""

import statistics
from typing import Any

from mbtrain.analysis.advice import Advice, clock_of, spread
from mbtrain.analysis.advice_words import LIMITS, answer, command_line, sentences
from mbtrain.analysis.page import Page
from mbtrain.analysis.section import Section
from mbtrain.analysis.table import Table, Value, number, word


def page_of(advice: Advice) -> Page:
    """The page."""
    lead = [answer(advice)]
    if advice.verdict is not None:
        lead.append(command_line(advice))
    return Page(
        "advice", _subtitle(advice.measured), lead, [_ways(advice), _parts(advice)], [*sentences(advice), *LIMITS]
    )


def _subtitle(measured: Any) -> str:
    git = measured["git"]
    changed = " with changes" if git and git["is_changed"] else ""
    commit = f"commit {git['commit'][:12]}{changed}" if git else "outside a repository"
    timing = measured["timing"]
    where = f"{timing['device']}, {timing['threads']} threads of {measured['cores']} cores"
    return f"{measured['question']} {measured['command']}; {commit}; torch {measured['versions']['torch']}; {where}"


def _ways(advice: Advice) -> Section:
    rows = []
    for way in advice.ways:
        one, losses = advice.of(way), advice.losses(way)
        rows.append(
            [
                number(float(way.batch_size)),
                number(float(way.micro_size)),
                word(str(way)),
                number(1e3 * way.seconds),
                number(1e6 * way.seconds / way.batch_size),
                number(spread(one["seconds"])),
                number(statistics.median(one["cpu_seconds"]) / statistics.median(one["seconds"])),
                number(advice.bytes_of(way) / 1e6),
                *([Value("")] * 2 if losses is None else map(number, losses)),
            ]
        )
    is_gpu = advice.measured["timing"]["device"] != "cpu"
    memory = "MB held at the most" if is_gpu else "MB kept for the backward pass"
    columns = ["batch size", "micro size", "way", "ms an update", "us a sample", "slowest round / fastest"]
    columns += ["processor time / time", memory, "times the best, B_crit low", "times the best, B_crit high"]
    text = (
        f"Whole updates in the training loop, in rounds that took each way in turn: {_clock(advice)}. The last two "
        "columns are ratios of mean times to the same loss."
    )
    return Section("The ways to make an update", [text], tables=[Table(columns, rows)])


def _clock(advice: Advice) -> str:
    if clock_of(advice.measured["timing"]) == "cpu":
        return "the process's own seconds, median of the three fastest rounds"
    return "medians by the wall clock"


def _parts(advice: Advice) -> Section:
    rows = [
        [number(float(size)), number(1e3 * seconds), number(advice.parts.once / seconds) if seconds else Value("")]
        for size, seconds in advice.parts.micro_batch.items()
    ]
    text = (
        "Time of an update = micro-batches x t_b + t_o, fitted to the table above: "
        f"t_o = {1e3 * advice.parts.once:.3g} ms is paid once an update. This explains; the verdict uses whole "
        "updates."
    )
    return Section("What an update is made of", [text], tables=[Table(["micro size", "t_b, ms", "t_o / t_b"], rows)])
