"""The comparisons of a study: which arms, under which budget, and what was decided; their table."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mbtrain.analysis.budgets import losses_by_budget
from mbtrain.analysis.contrast import holm
from mbtrain.analysis.decision import Decision, decide
from mbtrain.analysis.finite import without_diverged
from mbtrain.analysis.statistics import finite_mean_interval
from mbtrain.analysis.table import Table, Value, number, probability, with_interval, word
from mbtrain.analysis.trajectory import Trajectory

SPOKEN = {"samples": "equal samples", "updates": "equal updates", "time": "equal time"}


@dataclass(frozen=True)
class Contrast:
    """One arm against another under a budget, with what was decided."""

    case: str
    budget: str
    arm: str
    against: str
    losses: Mapping[str, list[float]]
    decision: Decision
    is_primary: bool


def contrasts(study: Mapping[str, Any], runs: Mapping[str, Trajectory]) -> Iterator[Contrast]:
    """The primary pair of arms, then those that were named, then every arm against the reference; at every budget."""
    primary = study["primary"]
    fixed = (primary["arm"], primary["against"]) if primary else None
    for name, case in study["cases"].items():
        by_budget = losses_by_budget(case, study["budgets"], runs)
        for budget, losses in by_budget.items():
            for arm, against in _pairs(study, list(losses)):
                finite, _ = without_diverged(losses[against])
                margin = study["margin"] * (float(finite.mean()) if len(finite) else 1.0)
                decision = decide(losses[arm], losses[against], margin=margin)
                is_primary = (arm, against) == fixed and budget == study["budget"]
                yield Contrast(name, budget, arm, against, losses, decision, is_primary)


def _pairs(study: Mapping[str, Any], arms: Sequence[str]) -> list[tuple[str, str]]:
    """Which arms of a case are compared."""
    named = [(one["arm"], one["against"]) for one in study["contrasts"]]
    reference = study["reference"]
    named += [(arm, reference) for arm in arms if arm != reference and (reference, arm) not in named]
    return [one for one in dict.fromkeys(named) if set(one) <= set(arms)]


def comparisons_table(found: Sequence[Contrast]) -> Table:
    """A row a comparison, the primary ones first; p values of all others are Holm's."""
    adjusted = dict(
        zip(
            [id(o) for o in found if not o.is_primary],
            holm([o.decision.welch.p for o in found if not o.is_primary]),
            strict=True,
        )
    )
    rows = []
    for one in sorted(found, key=lambda one: not one.is_primary):
        decision = one.decision
        p = decision.welch.p if one.is_primary else adjusted[id(one)]
        # What explores is only said to differ where Holm's p bears it.
        answer = (
            decision.answer
            if one.is_primary or p <= decision.alpha or decision.answer not in ("helps", "hurts")
            else "cannot tell"
        )
        seeds = decision.seeds_needed if answer == "cannot tell" else None
        rows.append(
            [
                word(one.case),
                word(SPOKEN[one.budget]),
                word(f"{one.arm} against {one.against}"),
                with_interval(finite_mean_interval(one.losses[one.arm])),
                with_interval(finite_mean_interval(one.losses[one.against])),
                with_interval(decision.difference),
                word(f"{answer} (primary)" if one.is_primary else answer),
                Value(probability(p) if not math.isnan(p) else "", p),
                number(math.nan if seeds is None else float(seeds)),
            ]
        )
    columns = [
        "case",
        "budget",
        "arms",
        "loss",
        "loss of the other",
        "difference",
        "answer",
        "p",
        "seeds that would tell",
    ]
    return Table(columns, rows)
