"""The section of a race's page that holds what the law predicts against what happened."""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from mbtrain.analysis.prediction import ACCUMULATED, Racer, Reading, ratios, readings
from mbtrain.analysis.section import Section
from mbtrain.analysis.table import Table, Value, number, percent, with_interval, word
from mbtrain.analysis.trajectory import Trajectory

# A prediction holds within this share of what is observed; its sign is told outside UNDECIDED.
WITHIN = 0.2
UNDECIDED = (0.85, 1.15)


def prediction_section(study: Mapping[str, Any], runs: Mapping[str, Trajectory]) -> Section | None:
    """Predicted beside observed ratios of mean times, and where accumulating pays; None where nothing can be read."""
    read = list(readings(study, runs))
    if not read:
        return None
    reference = study["reference"]
    told = [
        f"Ratios of MEAN times to a loss, over {reference}, under a constant learning rate. The law of updates, S_min "
        f"(1 + B_crit / B), is fitted on {reference} and the arms that take their mini-batch in one piece. Targets are "
        f"{reference}'s mean loss after a quarter and half of its samples, and the losses below which 75, 50 and 25 % "
        "of its runs ended; rates were tuned for the loss at the end, not for these. Seconds are the calibration's on "
        "both sides: what is tested is the number of samples.",
        *_held(read),
    ]
    return Section("Predicted against observed", told, tables=[_ratios(read), _pays(read)])


def _held(read: Sequence[Reading]) -> Iterator[str]:
    """How many predictions held."""
    for fitted, which in ((False, "that the law was not fitted on"), (True, "that it was fitted on")):
        found = ratios(read, fitted=fitted)
        if found:
            within = sum(abs(predicted / observed - 1) <= WITHIN for predicted, observed in found)
            decided = [one for one in found if not UNDECIDED[0] <= one[0] <= UNDECIDED[1]]
            right = sum((predicted > 1) == (observed > 1) for predicted, observed in decided)
            yield (
                f"Of {len(found)} comparisons of arms {which}, {within} are within {percent(WITHIN)}; of "
                f"{len(decided)} predicted outside {UNDECIDED[0]:g} to {UNDECIDED[1]:g}, {right} have the right sign."
            )


def _ratios(read: Sequence[Reading]) -> Table:
    rows = []
    for one in read:
        for racer in one.racers:
            predicted, observed = one.predicted(racer), one.observed(racer)
            off = predicted.estimate / observed.estimate if predicted and observed else math.nan
            rows.append(
                [
                    word(one.case),
                    word(one.place),
                    number(one.target),
                    word(racer.name),
                    number(float(racer.size)),
                    word("") if predicted is None else with_interval(predicted),
                    word("") if observed is None else with_interval(observed),
                    number(off),
                    word(_remark(one, racer)),
                ]
            )
    columns = ["case", "target", "validation loss", "arm", "mini-batch", "predicted", "observed"]
    return Table([*columns, "predicted / observed", "remark"], rows)


def _remark(one: Reading, racer: Racer) -> str:
    """What to know of a row: who did not get there, and whether the law goes through it or beyond its ends."""
    censored = [arm for arm in (racer, one.reference) if not arm.has_arrived]
    if censored:
        return "; ".join(f"{arm.num_reached} of {len(arm.samples)} runs of {arm.name} got there" for arm in censored)
    if one.is_fitted(racer):
        return "in the fit" if one.is_tested else "in the fit, which meets two sizes by itself"
    if not racer.is_inside:
        return "its best learning rate is at the edge of the grid"
    if one.law is not None and not one.law.fitted.holds(racer.size):
        return "beyond the fit"
    return ""


def _pays(read: Sequence[Reading]) -> Table:
    """Per target what an update costs, and what follows for accumulating."""
    columns = ["case", "target", "validation loss", "critical batch size", "t_b, ms", "t_o, ms", "t_o / t_b"]
    columns += ["best number of micro-batches", "accumulating pays, predicted"]
    note = (
        "t_b is a micro-batch forth and back, t_o is paid once an update. Accumulating a micro-batches of b pays where "
        "t_o / t_b > a b / B_crit; below 1 the best number is none. Under batch norm it changes the groups too."
    )
    return Table(columns, [_row(one) for one in read], note)


def _row(one: Reading) -> list[Value]:
    costs, critical = one.accumulation(), None
    if one.law is not None and one.law.fitted.is_bent:
        critical = one.law
    where = [word(one.case), word(one.place), number(one.target)]
    missing = "too few arms got there" if one.law is None else "no bend is seen"
    where.append(word(missing) if critical is None else with_interval(critical.critical_size()))
    if costs is None:
        return [*where, *(word("") for _ in range(5))]
    milliseconds = 1e3 * costs.micro_seconds, 1e3 * costs.update_seconds
    paid = [*where, *map(number, milliseconds), number(costs.update_seconds / costs.micro_seconds)]
    if critical is None:
        return [*paid, word(""), word("")]
    size = critical.fitted.critical_size
    accumulated = sorted(racer.size for racer in one.racers if racer.name.startswith(ACCUMULATED))
    numbers = [total // costs.micro_size for total in accumulated]
    paying = [f"{count} x {costs.micro_size}" for count in numbers if costs.pays(count, size)]
    return [*paid, number(costs.best(size)), word(", ".join(paying) or "never here")]
