"""Equal samples, equal updates, equal time: the losses of a case's runs at each budget of a study."""

from collections.abc import Mapping, Sequence
from typing import Any

from mbtrain.analysis.trajectory import Trajectory

Losses = dict[str, list[float]]


def losses_by_budget(
    case: Mapping[str, Any], budgets: Sequence[str], runs: Mapping[str, Trajectory]
) -> dict[str, Losses]:
    """By budget and arm, the validation loss of each run.

    The first budget is what the runs were made for: their ends. A further one is the end of runs of its own, where the
    case has such, else read off the same runs at the most samples, or updates, that every arm has.
    """
    ran = {arm: [runs[one] for one in folders] for arm, folders in case["runs"].items()}
    first, *further = budgets
    found = {first: {arm: [one.final for one in own] for arm, own in ran.items()}}
    for budget in further:
        own = case.get("also", {}).get(budget)
        if own is not None:
            found[budget] = {arm: [runs[one].final for one in folders] for arm, folders in own.items()}
        else:
            found[budget] = _read_off(ran, budget)
    return found


def _read_off(ran: Mapping[str, Sequence[Trajectory]], budget: str) -> Losses:
    finished = [one for own in ran.values() for one in own if one.losses]
    if budget == "samples":
        samples = min((one.samples[-1] for one in finished), default=0)
        return {arm: [one.at_samples(samples) for one in own] for arm, own in ran.items()}
    updates = min((one.updates[-1] for one in finished), default=0)
    return {arm: [one.at_updates(updates) for one in own] for arm, own in ran.items()}
