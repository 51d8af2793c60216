"""The samples that runs took to a target: read off where a run crossed it, or between runs of several lengths."""

import math
from collections.abc import Mapping, Sequence

import numpy as np

from mbtrain.analysis.trajectory import Trajectory


def crossing(run: Trajectory, below: float) -> float:
    """The samples at which a run's loss came down to `below`, on a straight line between two validations.

    nan where it never did. A run that begins below crossed by its first validation.

    >>> crossing(Trajectory((1, 2), (100, 200), (0.5, 0.3)), 0.4)
    150.0
    """
    losses = np.asarray(run.losses, dtype=np.float64)
    there = np.nonzero(losses <= below)[0]
    if not len(there):
        return math.nan
    first = int(there[0])
    if first == 0:
        return float(run.samples[0])
    share = (losses[first - 1] - below) / (losses[first - 1] - losses[first])
    return float(run.samples[first - 1] + share * (run.samples[first] - run.samples[first - 1]))


def between(losses_by_length: Mapping[int, Sequence[float]], below: float) -> list[float]:
    """The samples a schedule must be long to end at `below`, one number a seed, from runs of two lengths or more.

    Final loss against the logarithm of length is a straight line between the two lengths around the target, through
    the means; each seed's own level moves it. Empty where the target lies between no two lengths, or a run diverged.
    """
    means = {length: float(np.mean(losses)) for length, losses in sorted(losses_by_length.items())}
    over = [length for length, loss in means.items() if loss > below]
    under = [length for length, loss in means.items() if loss <= below]
    if not over or not under or not all(map(math.isfinite, means.values())):
        return []
    long, short = min(under), max((one for one in over if one < min(under)), default=0)
    if not short:
        return []
    slope = (means[long] - means[short]) / math.log(long / short)
    middle = math.log(short) + (below - means[short]) / slope
    own = np.stack([np.asarray(losses_by_length[one]) - means[one] for one in (short, long)]).mean(axis=0)
    return [float(math.exp(middle - level / slope)) for level in own]
