"""Targets that some runs never reach: how many did, the median time to it, whether two arms differ in it.

A run that ended before it reached the target is censored: all that is known is that its time is longer than the run.
Times may be seconds, samples or iterations; `times[i]` is when run i reached the target or, where `reached[i]` is
false, how long it ran.
"""

import math

import numpy as np
from numpy.typing import ArrayLike
from scipy import special, stats

from mbtrain.analysis.contrast import Comparison
from mbtrain.analysis.finite import Values, all_finite
from mbtrain.analysis.statistics import FEW, Interval


def share_reached(reached: ArrayLike, level: float = 0.95) -> Interval:
    """The share of runs that reached the target, with Wilson's interval (JASA 22:209, 1927).

    >>> print(share_reached([True] * 9 + [False]))
    0.9 [0.5958, 0.9821] (n = 10, 95 %, Wilson)
    """
    flags = np.asarray(reached, dtype=bool)
    n = len(flags)
    if n == 0:
        return Interval(0, math.nan, math.nan, math.nan, level, "no interval: no runs")
    z = float(special.ndtri((1 + level) / 2))
    share = float(flags.mean())
    centre = (share + z**2 / (2 * n)) / (1 + z**2 / n)
    reach = z / (1 + z**2 / n) * math.sqrt(share * (1 - share) / n + z**2 / (4 * n**2))
    return Interval(n, share, max(0.0, centre - reach), min(1.0, centre + reach), level, "Wilson")


def median_time(times: ArrayLike, reached: ArrayLike, level: float = 0.95) -> Interval:
    """The time by which half of all runs reach the target: the Kaplan-Meier median (JASA 53:457, 1958).

    The bounds are where the log-log band of the curve crosses one half (Brookmeyer & Crowley, Biometrics 38:29,
    1982). Infinite means "later than these runs show": an estimate where half of the runs never got there, often the
    upper bound. Measured coverage of 95 % (2000 simulated sweeps of exponential times, a third of the runs cut short
    or none): .95 to .97 at n = 5, 10, 20, 50, and up to .99 where times are rounded to a cadence.

    >>> print(median_time([3, 5, 8, 9, 9], [True, True, True, False, False]))
    8 [3, inf] (n = 5, 95 %, Kaplan-Meier)
    """
    at, survival, variance = _kaplan_meier(times, reached)
    n = int(np.size(times))
    estimate = _first_at_half(at, survival) if n else math.nan
    if n < 2:
        return Interval(n, estimate, math.nan, math.nan, level, FEW)
    lower, upper = _log_log_band(survival, variance, level)
    # Where the last run has arrived there is no such band: the binomial bound on a share that was never seen.
    arrived = np.count_nonzero(reached)
    lower, upper = (
        np.where(survival, lower, 0),
        np.where(survival, upper, 1 - ((1 - level) / 2) ** (1 / max(1, arrived))),
    )
    return Interval(n, estimate, _first_at_half(at, lower), _first_at_half(at, upper), level, "Kaplan-Meier")


def log_rank(times_a: ArrayLike, reached_a: ArrayLike, times_b: ArrayLike, reached_b: ArrayLike) -> Comparison:
    """Whether two arms reach a target at different times (Mantel, 1966); `statistic` is normal, above 0 if a is sooner.

    `difference` is nan: where runs are censored a difference of times is not known. p is 1 where nothing could differ:
    no run arrived, or all did so at once.

    >>> round(log_rank([3, 5, 8, 9], [True, True, True, False], [7, 9, 9, 9], [True, False, False, False]).p, 3)
    0.171
    """
    num_a, num_b = int(np.size(times_a)), int(np.size(times_b))
    if min(num_a, num_b) == 0:
        return Comparison("log-rank", num_a, num_b, math.nan, math.nan, math.nan, math.nan)
    with np.errstate(invalid="ignore"):
        found = stats.logrank(_censored(times_a, reached_a), _censored(times_b, reached_b))
    statistic, p = (0.0, 1.0) if np.isnan(found.pvalue) else (float(found.statistic), float(found.pvalue))
    return Comparison("log-rank", num_a, num_b, math.nan, statistic, math.nan, p)


def _kaplan_meier(times: ArrayLike, reached: ArrayLike) -> tuple[Values, Values, Values]:
    """Times at which runs arrived, the share that had not by then, and Greenwood's variance of that share's log."""
    durations, flags = all_finite(times), np.asarray(reached, dtype=bool)
    at, arrived = np.unique(durations[flags], return_counts=True)
    on_the_way = (durations >= at[:, None]).sum(axis=1)  # a run that ended at that very time was still watched
    survival = np.cumprod(1 - arrived / on_the_way)
    with np.errstate(divide="ignore"):
        variance = np.cumsum(arrived / (on_the_way * (on_the_way - arrived)))
    return at, survival, variance


def _log_log_band(survival: Values, variance: Values, level: float) -> tuple[Values, Values]:
    """The pointwise band of a survival curve that is symmetric in log(-log S); nan where S is 0."""
    with np.errstate(divide="ignore", invalid="ignore"):
        depth = -np.log(survival)
        reach = float(special.ndtri((1 + level) / 2)) * np.sqrt(variance) / depth
        return np.exp(-depth * np.exp(reach)), np.exp(-depth * np.exp(-reach))


def _first_at_half(at: Values, survival: Values) -> float:
    """The first time at which the curve is one half or less, infinite where it never is."""
    below = np.flatnonzero(survival <= 0.5 + 1e-12)
    return float(at[below[0]]) if len(below) else math.inf


def _censored(times: ArrayLike, reached: ArrayLike) -> stats.CensoredData:
    return stats.CensoredData.right_censored(all_finite(times), ~np.asarray(reached, dtype=bool))
