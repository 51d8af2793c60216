"""How long the arms of a case train, so that what the budget names is equal between them."""

from collections.abc import Mapping

from mbtrain.study.calibration import Pace
from mbtrain.study.design import Case


def durations(
    case: Case, budget: str, reference: str, sizes: Mapping[str, int], paces: Mapping[str, Pace]
) -> dict[str, str]:
    """The duration of each arm; `sizes` are samples of a mini-batch by arm.

    The reference arm sees the case's length; the others get the same samples, or the updates or the time it takes. On
    the way to a target it is as long as it may take: large mini-batches need more samples (arXiv 1812.06162).
    """
    if budget == "target":
        return {arm: f"{case.length + case.updates * size}sp" for arm, size in sizes.items()}
    if budget == "samples":
        return dict.fromkeys(sizes, f"{case.length}sp")
    updates = -(-case.length // sizes[reference])
    if budget == "updates":
        return dict.fromkeys(sizes, f"{updates}it")
    seconds = updates * paces[reference].seconds
    found = {arm: max(1, round(seconds / paces[arm].seconds)) for arm in sizes}
    return {arm: f"{updates if arm == reference else count}it" for arm, count in found.items()}


def common(budget: str, own: Mapping[str, str], sizes: Mapping[str, int]) -> str:
    """The most samples, or updates, that every arm has within its own duration.

    >>> common("updates", {"step": "400it", "direct": "100it"}, {"step": 32, "direct": 256})
    '100it'
    >>> common("samples", {"step": "400it", "direct": "100it"}, {"step": 32, "direct": 256})
    '12800sp'
    """
    if budget == "samples":
        return f"{min(samples(one, sizes[arm]) for arm, one in own.items())}sp"
    return f"{min(-(-samples(one, sizes[arm]) // sizes[arm]) for arm, one in own.items())}it"


def samples(duration: str, size: int) -> int:
    """The samples of a duration, in mini-batches of `size`."""
    amount = int(duration[:-2])
    return amount * size if duration.endswith("it") else amount


def longer(duration: str, times: float) -> str:
    """A duration, so many times as long.

    >>> longer("400it", 2.5)
    '1000it'
    """
    return f"{round(int(duration[:-2]) * times)}{duration[-2:]}"
