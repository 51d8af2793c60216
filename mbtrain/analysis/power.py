"""How many runs an arm needs: the power of n seeds to see a difference, or to show that there is none.

Two arms of n runs each with one standard deviation, tests as in `contrast` (Welch's degrees are then 2n - 2 at most,
and nearly so).
"""

import math
from collections.abc import Callable

import numpy as np
from scipy import special, stats

# Gauss-Legendre on [-1, 1]: what is integrated is smooth, and known to 1e-9 with these.
NODES, WEIGHTS = np.polynomial.legendre.leggauss(200)


def power(n: int, difference: float, sd: float, *, alpha: float = 0.05) -> float:
    """The chance that n runs an arm show a `difference` of means at two-sided `alpha`, by the noncentral t.

    >>> round(power(17, difference=1.0, sd=1.0), 3)
    0.807
    """
    degrees = 2 * n - 2
    shift = abs(difference) / (sd * math.sqrt(2 / n))
    critical = float(special.stdtrit(degrees, 1 - alpha / 2))
    return float(stats.nct.sf(critical, degrees, shift) + stats.nct.cdf(-critical, degrees, shift))


def equivalence_power(n: int, margin: float, sd: float, *, difference: float = 0.0, alpha: float = 0.05) -> float:
    """The chance that TOST with n runs an arm shows that `difference` (in truth) is within `margin`.

    The mean over the estimated variance s^2 of the chance that the observed difference lies within margin - t s/sd
    (exact: difference and variance are independent; D. B. Owen, Biometrika 52:437, 1965).

    >>> round(equivalence_power(18, margin=1.0, sd=1.0), 3)
    0.805
    """
    degrees = 2 * n - 2
    error = sd * math.sqrt(2 / n)
    critical = float(special.stdtrit(degrees, 1 - alpha)) * error

    # Above `most` there is no room left; beyond ten standard deviations of the chi-square there is no mass.
    most, width = degrees * (margin / critical) ** 2, 10 * math.sqrt(2 * degrees) + 50
    low, high = max(0.0, degrees - width), min(most, degrees + width)
    if low >= high:
        return 0.0
    squares = low + (high - low) * (NODES + 1) / 2
    room = margin - critical * np.sqrt(squares / degrees)
    inside = special.ndtr((room - difference) / error) - special.ndtr((-room - difference) / error)
    return float((WEIGHTS * inside * stats.chi2.pdf(squares, degrees)).sum() * (high - low) / 2)


def seeds_needed(difference: float, sd: float, *, alpha: float = 0.05, power_wanted: float = 0.8) -> int:
    """The fewest runs an arm that show `difference` with the power that is wanted.

    >>> seeds_needed(difference=1.0, sd=1.0)
    17
    """
    _require_above_zero("difference", difference)
    return _fewest(lambda n: power(n, difference, sd, alpha=alpha), power_wanted) if sd else 2


def equivalence_seeds_needed(margin: float, sd: float, *, alpha: float = 0.05, power_wanted: float = 0.8) -> int:
    """The fewest runs an arm that show "no difference within the margin" with the power that is wanted, if so it is.

    >>> equivalence_seeds_needed(margin=1.0, sd=1.0)
    18
    """
    _require_above_zero("margin", margin)
    return _fewest(lambda n: equivalence_power(n, margin, sd, alpha=alpha), power_wanted) if sd else 2


def _require_above_zero(name: str, value: float) -> None:
    if not value > 0:
        raise ValueError(f"{name}={value:g}: must be above 0, no number of runs shows less")


def _fewest(power_of: Callable[[int], float], power_wanted: float) -> int:
    """The least n of at least 2 that has the power: doubled until it does, then halved in between."""
    enough = 2
    while power_of(enough) < power_wanted:
        enough *= 2
    too_few = max(1, enough // 2)
    while enough - too_few > 1:
        middle = (enough + too_few) // 2
        if power_of(middle) < power_wanted:
            too_few = middle
        else:
            enough = middle
    return enough
