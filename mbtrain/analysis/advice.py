"""Advice on batch size and accumulation, from what `study=advise` measured, and how far it can be told."""

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import orjson

from mbtrain.analysis.accumulation import Parts, Verdict, Way, critical_range, loss, parts_of, undisturbed, verdict
from mbtrain.analysis.hyperbola import law
from mbtrain.log.files import replace

FILE = "advice.json"
# Where all processor time is less than this share of the time that went by, something else was computing.
BUSY = 0.9
# Rounds of one way, the slowest left out, that differ by more than this factor are not steady.
STEADY = 1.25


@dataclass(frozen=True)
class Fit:
    """A calibration: B_crit, the batch sizes it was fitted on, rms of log-residuals, whether a bend is visible."""

    critical: float
    smallest: float
    largest: float
    residual: float
    is_bent: bool


@dataclass(frozen=True)
class Critical:
    """Where B_crit lies, in samples: a calibration's 95 % interval, or (`fit` None) what the noise scale leaves."""

    low: float
    high: float
    fit: Fit | None = None


@dataclass(frozen=True)
class Ratio:
    """Expected ratio of mean times to a loss, of one way to another: over the range of B_crit, and at its estimate."""

    low: float
    high: float
    estimate: float | None

    def __str__(self) -> str:
        span = f"{self.low:.2f}" if f"{self.low:.2f}" == f"{self.high:.2f}" else f"{self.low:.2f} to {self.high:.2f}"
        return span if self.estimate is None else f"{self.estimate:.2f} [{self.low:.2f}, {self.high:.2f}]"


@dataclass(frozen=True)
class Advice:
    """What was measured, and what follows; without a range for B_crit there is no verdict."""

    measured: Mapping[str, Any]
    ways: Sequence[Way]
    parts: Parts
    critical: Critical | None
    verdict: Verdict | None

    def of(self, way: Way) -> Mapping[str, Any]:
        """What was measured of a way."""
        return next(
            one
            for one in self.measured["timing"]["ways"]
            if (one["batch_size"], one["micro_size"]) == (way.batch_size, way.micro_size)
        )

    def bytes_of(self, way: Way) -> int:
        """On a GPU the most memory held, on a CPU what a micro-batch keeps for its backward pass."""
        return self.of(way)["peak_bytes"] or self.measured["timing"]["kept_bytes"][str(way.micro_size)]

    @property
    def own(self) -> Way | None:
        """The user's own mini-batch and micro-batch, where it was timed."""
        own = self.measured["own"]
        size, micro_size = own["size"], own["micro_size"]
        if own["accumulate"] is not None and isinstance(size, int):
            micro_size = -(-size // own["accumulate"])
        cut = (size, micro_size if isinstance(micro_size, int) else size)
        return next((way for way in self.ways if (way.batch_size, way.micro_size) == cut), None)

    def ratio(self, way: Way, to: Way) -> Ratio:
        """The expected ratio of mean times to a loss."""
        assert self.critical is not None
        ends = sorted(way.cost(end) / to.cost(end) for end in (self.critical.low, self.critical.high))
        fit = self.critical.fit
        return Ratio(ends[0], ends[1], None if fit is None else way.cost(fit.critical) / to.cost(fit.critical))

    def losses(self, way: Way) -> tuple[float, float] | None:
        """How many times the best way's time it takes, at the low and at the high end of B_crit."""
        if self.verdict is None:
            return None
        return loss(way, self.verdict.low), loss(way, self.verdict.high)


def write_advice(study_dir: Path) -> tuple[Path, Advice]:
    """Write advice.json and the page, from measured.json; the page's path, and the advice."""
    from mbtrain.analysis.advice_page import page_of
    from mbtrain.analysis.study import save

    advice = advice_of(orjson.loads((study_dir / "measured.json").read_bytes()))
    replace(study_dir / FILE, orjson.dumps(content(advice), option=orjson.OPT_INDENT_2))
    return save(page_of(advice), study_dir), advice


def advice_of(measured: Mapping[str, Any]) -> Advice:
    """What follows from what was measured."""
    ways = ways_of(measured["timing"])
    critical = critical_of(measured)
    told = None if critical is None else verdict(ways, critical.low, critical.high)
    return Advice(measured, ways, parts_of(ways), critical, told)


def content(advice: Advice) -> dict[str, Any]:
    """What advice.json says."""
    from mbtrain.analysis.advice_words import answer, command_line, sentences

    found, own = advice.verdict, advice.own
    told = {
        **advice.measured,
        "clock": clock_of(advice.measured["timing"]),
        "critical": None if advice.critical is None else asdict(advice.critical),
        "seconds_of_a_micro_batch": {str(size): one for size, one in advice.parts.micro_batch.items()},
        "seconds_once": advice.parts.once,
        "answer": answer(advice),
        "sentences": list(sentences(advice)),
    }
    if found is None:
        return told
    return told | {
        "batch_size": found.advised.batch_size,
        "micro_size": found.advised.micro_size,
        "accumulate": found.accumulate,
        "is_told": found.is_told,
        "ways": [
            asdict(way)
            | {"times_the_best": advice.losses(way)}
            | {"times_your_own": None if own is None else asdict(advice.ratio(way, own))}
            for way in advice.ways
        ],
        "run": command_line(advice),
    }


def critical_of(measured: Mapping[str, Any]) -> Critical | None:
    """What the calibration says of B_crit, else the range that the noise scale leaves open; None where neither does."""
    calibration = measured["calibration"]
    if calibration is not None and len(calibration["samples"]) > 1:
        return _calibrated(calibration)
    noise = measured["noise"]
    is_bounded = noise["high"] is not None and noise["scale"] > 0
    low, high = critical_range(noise["scale"]) if is_bounded else (critical_range(noise["low"])[0], math.inf)
    return Critical(low, high) if low > 0 else None


def _calibrated(calibration: Mapping[str, Any]) -> Critical:
    found = law({int(size): samples for size, samples in calibration["samples"].items()})
    interval, fitted = found.critical_size(), found.fitted
    return Critical(
        interval.low, interval.high, Fit(fitted.critical_size, fitted.low, fitted.high, fitted.residual, fitted.is_bent)
    )


def clock_of(timing: Mapping[str, Any]) -> str:
    """`wall`, or `cpu` where others kept the machine busy while one thread was timed, so that its own time is known."""
    return "cpu" if is_contended(timing) and timing["threads"] == 1 else "wall"


def is_contended(timing: Mapping[str, Any]) -> bool:
    """Whether the process computed for much less time than went by; on a GPU, or with workers, that says nothing."""
    if timing["device"] != "cpu" or timing["workers"]:
        return False
    cpu, wall = (sum(statistics.median(one[name]) for one in timing["ways"]) for name in ("cpu_seconds", "seconds"))
    return cpu < BUSY * wall


def ways_of(timing: Mapping[str, Any]) -> list[Way]:
    """The ways with their median times; those of the processor from the rounds that were disturbed least."""
    if clock_of(timing) == "cpu":
        return [Way(one["batch_size"], one["micro_size"], undisturbed(one["cpu_seconds"])) for one in timing["ways"]]
    return [Way(one["batch_size"], one["micro_size"], statistics.median(one["seconds"])) for one in timing["ways"]]


def spread(rounds: Sequence[float]) -> float:
    """The slowest round over the fastest, the very slowest left out."""
    kept = sorted(rounds)[:-1] or list(rounds)
    return kept[-1] / kept[0]
