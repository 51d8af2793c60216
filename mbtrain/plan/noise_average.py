"""Averages of the gradient noise scale's estimates over a run, with Fieller's interval: plain numbers, on the host."""

import math
from typing import Any, NamedTuple

# The normal quantile of a 95 % interval.
Z = 1.959963984540054
# The products of (1, s, g), of which weighted sums are kept; s is the trace, g the squared gradient.
PRODUCTS = ("1", "s", "g", "ss", "sg", "gg")


class Interval(NamedTuple):
    """The ends of a 95 % interval; `high` is infinite where the noise hides the gradient, both nan from one value."""

    low: float
    high: float


class NoiseAverage:
    """Exponential averages of trace and gradient_sq apart, which count half after `half_life` samples.

    Their ratio is biased, and gradient_sq of one mini-batch is often negative: averaged apart, divided last, signs
    kept. A measurement that is not finite is left out.
    """

    def __init__(self, half_life: float) -> None:
        self._half_life, self._seen_at = half_life, 0
        self._sums = dict.fromkeys(PRODUCTS, 0.0)
        self._squared_weights = 0.0

    def add(self, trace: float, gradient_sq: float, *, samples_seen: int) -> None:
        """Take in the estimates of a mini-batch, measured after `samples_seen` samples of the run."""
        fading = 0.5 ** ((samples_seen - self._seen_at) / self._half_life)
        self._seen_at = samples_seen
        products = (1.0, trace, gradient_sq, trace * trace, trace * gradient_sq, gradient_sq * gradient_sq)
        is_finite = all(map(math.isfinite, products))
        for name, product in zip(PRODUCTS, products, strict=True):
            self._sums[name] = fading * self._sums[name] + (product if is_finite else 0.0)
        self._squared_weights = fading**2 * self._squared_weights + is_finite

    @property
    def trace(self) -> float:
        """The averaged trace."""
        return over(self._sums["s"], self._sums["1"])

    @property
    def gradient_sq(self) -> float:
        """The averaged squared gradient."""
        return over(self._sums["g"], self._sums["1"])

    @property
    def scale(self) -> float:
        """B_simple in samples, with its sign: negative where gradient_sq is, which says it is not determined."""
        return over(self._sums["s"], self._sums["g"])

    def interval(self) -> Interval:
        """Fieller's interval of `scale`: all R with (s - R g)^2 <= t^2 Var(s - R g).

        It is the delta method's where the denominator is well known, and unbounded where it does not differ from zero.
        Measurements count as independent.
        """
        total = self._sums["1"]
        count = over(total * total, self._squared_weights)
        if not count > 1:
            return Interval(math.nan, math.nan)
        s, g = self.trace, self.gradient_sq
        # Cornish and Fisher's first term of Student's t, for small counts.
        t = Z * (1 + (Z**2 + 1) / (4 * (count - 1)))
        margin = t * t / (count - 1)
        square = g * g - margin * (self._sums["gg"] / total - g * g)
        product = s * g - margin * (self._sums["sg"] / total - s * g)
        rest = s * s - margin * (self._sums["ss"] / total - s * s)
        root = math.sqrt(max(0.0, product * product - square * rest))
        ends = sorted((over(product - root, square), over(product + root, square)))
        if square > 0:
            return Interval(max(0.0, ends[0]), ends[1])
        # Unbounded: all but what lies between the roots; a noise scale is not negative.
        return Interval(max(0.0, ends[1]) if rest > 0 else 0.0, math.inf)

    def state(self) -> dict[str, Any]:
        """What a checkpoint keeps."""
        return {"sums": dict(self._sums), "squared_weights": self._squared_weights, "seen_at": self._seen_at}

    def load(self, state: dict[str, Any]) -> None:
        """Go on from `state`."""
        self._sums, self._squared_weights = dict(state["sums"]), state["squared_weights"]
        self._seen_at = state["seen_at"]


def over(a: float, b: float) -> float:
    """a / b, as floating point has it where b is 0.

    >>> over(1.0, 0.0), over(0.0, 0.0), over(-1.0, 4.0)
    (inf, nan, -0.25)
    """
    if b:
        return a / b
    return math.nan if not a or math.isnan(a) else math.copysign(math.inf, a) * math.copysign(1.0, b)
