"""A study at one look: a contrast in every case, as a share of the other arm's loss."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from mbtrain.analysis.charts import DotRow, Dots, Panel
from mbtrain.analysis.comparisons import SPOKEN, Contrast
from mbtrain.analysis.section import Section
from mbtrain.analysis.statistics import finite_mean_interval
from mbtrain.analysis.table import spoken


def overview(study: Mapping[str, Any], found: Sequence[Contrast]) -> Section | None:
    """The primary contrast under every budget, and the named ones at the study's own; None with a single case."""
    if len(study["cases"]) < 2:
        return None
    by_pair: dict[tuple[str, str], dict[str, list[Contrast]]] = {}
    for one in found:
        by_pair.setdefault((one.arm, one.against), {}).setdefault(one.budget, []).append(one)
    panels = list(_panels(study, by_pair))
    if not panels:
        return None
    told = (
        "Difference in mean validation loss as a share of the other arm's: left of 0 the first arm is better. The line "
        f"is the 95 % interval, the band is what counts as equal, {study['margin']:.0%} to both sides."
    )
    return Section("At one look", [told], panels)


def _panels(
    study: Mapping[str, Any], by_pair: Mapping[tuple[str, str], Mapping[str, Sequence[Contrast]]]
) -> Iterator[Panel]:
    own = study["budget"]
    primary = study["primary"] and (study["primary"]["arm"], study["primary"]["against"])
    if primary in by_pair:
        by_budget = by_pair[primary]
        yield Panel([_chart(study, one) for one in by_budget.values()], [SPOKEN[budget] for budget in by_budget])
    named = [(one["arm"], one["against"]) for one in study["contrasts"]]
    others = {
        pair: by_pair[pair][own] for pair in named if pair != primary and len(by_pair.get(pair, {}).get(own, ())) > 1
    }
    if others:
        yield Panel([_chart(study, one) for one in others.values()], [f"{arm} against {than}" for arm, than in others])


def _chart(study: Mapping[str, Any], found: Sequence[Contrast]) -> Dots:
    """One contrast under one budget."""
    first = found[0]
    title = f"{first.arm} against {first.against} at {SPOKEN[first.budget]}"
    rows = [row for one in found if (row := _row(one)) is not None]
    file = f"overview-{first.arm}-{first.against}-{first.budget}"
    return Dots(file, title, "difference in validation loss, %", rows, margin=100 * study["margin"])


def _row(one: Contrast) -> DotRow | None:
    """None where an arm has no loss."""
    base = finite_mean_interval(one.losses[one.against]).estimate
    difference = one.decision.difference
    if not (math.isfinite(base) and math.isfinite(difference.estimate)):
        return None
    low, middle, high = (100 * at / base for at in (difference.low, difference.estimate, difference.high))
    share = replace(difference, estimate=middle, low=low, high=high)
    return DotRow(one.case, (), middle, low, high, f"{one.case}: {spoken(share)} %")
