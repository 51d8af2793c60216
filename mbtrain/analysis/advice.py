"""Advice on batch size and accumulation, from what `study=advise` measured, and how far it can be told."""

import math
import shlex
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import orjson

from mbtrain.analysis.accumulation import Law, Parts, Verdict, Way, critical_range, law, loss, parts_of, verdict
from mbtrain.log.files import replace

FILE = "advice.json"
# Where all processor time is less than this share of the time that went by, something else was computing.
BUSY = 0.9
# Rounds of one way, the slowest left out, that differ by more than this factor are not steady.
STEADY = 1.25
# So many ways are named in a sentence.
NAMED = 4
LIMITS = (
    "Ratios are of MEAN times to the same validation loss, each way with a learning rate tuned for its batch size, "
    "under this optimizer and schedule. One run differs from the mean by 10 to 20 %.",
    "Not checked: batch norm (accumulation is ghost batch norm there), and learning rates moved by a rule, not tuned.",
)


@dataclass(frozen=True)
class Critical:
    """Where B_crit lies, in samples, and what says so; `told` is a sentence."""

    low: float
    high: float
    told: str
    is_calibrated: bool = False


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
    found = advice.verdict
    own = {
        **advice.measured,
        "clock": clock_of(advice.measured["timing"]),
        "critical": None if advice.critical is None else asdict(advice.critical),
        "seconds_of_a_micro_batch": {str(size): one for size, one in advice.parts.micro_batch.items()},
        "seconds_once": advice.parts.once,
        "answer": answer(advice),
        "sentences": list(sentences(advice)),
    }
    if found is None:
        return own
    return own | {
        "batch_size": found.advised.batch_size,
        "micro_size": found.advised.micro_size,
        "accumulate": found.accumulate,
        "is_told": found.is_told,
        "ways": [asdict(way) | {"times_the_best": advice.losses(way)} for way in advice.ways],
        "run": command_line(advice),
    }


def critical_of(measured: Mapping[str, Any]) -> Critical | None:
    """The range of B_crit that the noise scale leaves open; None where it is not determined itself."""
    noise = measured["noise"]
    is_bounded = noise["high"] is not None and noise["scale"] > 0
    low, high = critical_range(noise["scale"]) if is_bounded else (critical_range(noise["low"])[0], math.inf)
    if low == 0:
        return None
    where = noise["run"] if noise["trajectory"] is None else f"the first {noise['trajectory']}"
    left_open = f"half to ten times itself: {_range(low, high)}" if is_bounded else f"all from {low:,.0f} up"
    told = (
        f"Noise scale {noise['scale']:,.0f} [{noise['low']:,.0f}, {_number(noise['high'])}] samples, from "
        f"{noise['num_measured']:,} mini-batches of {where}. It is not B_crit, which depends on optimizer, schedule "
        f"and target besides; it leaves open {left_open}."
    )
    return Critical(low, high, told)


def _range(low: float, high: float) -> str:
    return f"{low:,.0f} and up" if math.isinf(high) else f"{low:,.0f} to {high:,.0f}"


def _number(value: float | None) -> str:
    return "unbounded" if value is None else f"{value:,.0f}"


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
    """The ways with their median times."""
    name = "cpu_seconds" if clock_of(timing) == "cpu" else "seconds"
    return [Way(one["batch_size"], one["micro_size"], statistics.median(one[name])) for one in timing["ways"]]


def spread(rounds: Sequence[float]) -> float:
    """The slowest round over the fastest, the very slowest left out."""
    kept = sorted(rounds)[:-1] or list(rounds)
    return kept[-1] / kept[0]


def answer(advice: Advice) -> str:
    """The one recommendation, and how far it is told."""
    found = advice.verdict
    if found is None:
        return (
            "No advice: the noise scale is not determined by so few mini-batches: set study.trajectory longer, or "
            "study.calibrate=true."
        )
    advised, low, high = found.advised, found.low, found.high
    told = f"batch.size={advised.batch_size}"
    told += f" batch.micro_size={advised.micro_size}" if advised.is_accumulated else " in one piece"
    at_most = f"at most {found.loss:.2f} times the time of the best way"
    span = f"B_crit is {_range(low.critical, high.critical)}"
    if found.is_told:
        verb = "Accumulate" if found.accumulate else "Do not accumulate"
        return f"{verb}: {told}: {at_most}, wherever {span}."
    ends = f"{low.best} would be best at the low end, {high.best} at the high one"
    if found.accumulate is None:
        first = "Whether to accumulate cannot be told"
    else:
        verb = "Accumulate" if found.accumulate else "Do not accumulate"
        first = f"{verb}. What batch size cannot be told"
    cure = "" if advice.critical is not None and advice.critical.is_calibrated else " study.calibrate=true would tell."
    return f"{first}: {span}, and {ends}. Between them {told} takes {at_most}.{cure}"


def sentences(advice: Advice) -> Iterator[str]:
    """What the recommendation rests on, and what to mind."""
    if advice.critical is not None:
        yield advice.critical.told
        if (found := spoken_law_of(advice)) is not None:
            yield found
    yield from cautions(advice)


def spoken_law_of(advice: Advice) -> str | None:
    """The user's own accumulation, or else the best one, against stepping at each micro-batch and against one piece."""
    by_cut = {(way.batch_size, way.micro_size): way for way in advice.ways}
    assert advice.critical is not None
    ends = (advice.critical.low, advice.critical.high)
    accumulated = [way for way in advice.ways if way.is_accumulated and (way.micro_size,) * 2 in by_cut]
    if not accumulated:
        return None
    way = by_cut.get(_own_cut(advice.measured["own"]))
    if way is None or not way.is_accumulated:
        way = min(accumulated, key=lambda one: math.prod(one.cost(end) for end in ends))
    step, direct = by_cut.get((way.micro_size, way.micro_size)), by_cut.get((way.batch_size, way.batch_size))
    assert step is not None
    return _spoken_law(law(way, step, advice.parts, ends), direct)


def _own_cut(own: Mapping[str, Any]) -> tuple[int, int]:
    """The user's own mini-batch and micro-batch; (0, 0), which no way has, where they are not numbers."""
    size, micro_size = own["size"], own["micro_size"]
    if not isinstance(size, int):
        return 0, 0
    if own["accumulate"] is not None:
        micro_size = -(-size // own["accumulate"])
    return size, micro_size if isinstance(micro_size, int) else size


def _spoken_law(found: Law, direct: Way | None) -> str:
    answers = {True: "it pays", False: "it does not pay", None: "it cannot be told whether it pays"}
    low, high = sorted(found.ratio)
    told = (
        f"{found.way} against stepping on every {found.way.micro_size:,}: what an update costs once is "
        f"{found.once_share:.2f} of a micro-batch; accumulation pays where that is above {found.way.batch_size:,} / "
        f"B_crit = {found.needed[1]:.2f} to {found.needed[0]:.2f}: {answers[found.pays]} (expected ratio of mean times "
        f"to a loss {_between(low, high)})."
    )
    if direct is None:
        return told
    ratio = found.way.seconds / direct.seconds
    return f"{told} Against {direct}, the same updates: {ratio:.2f} times the time."


def _between(low: float, high: float) -> str:
    return f"{low:.2f}" if f"{low:.2f}" == f"{high:.2f}" else f"{low:.2f} to {high:.2f}"


def cautions(advice: Advice) -> Iterator[str]:
    """What whoever follows the advice should know."""
    timing, own = advice.measured["timing"], advice.measured["own"]
    if timing["has_batch_norm"] and advice.verdict is not None:
        yield (
            "The model has batch norm: accumulating makes ghost batch norm of it, with groups of the micro size, and "
            "another batch size another batch norm: the law was not checked there."
        )
    if is_contended(timing):
        used = "the process's own seconds are used" if clock_of(timing) == "cpu" else "the times are doubtful"
        yield f"Something else kept the machine busy while updates were timed: {used}."
    unsteady = [str(way) for way in advice.ways if spread(advice.of(way)[_column(timing)]) > STEADY]
    if unsteady:
        named = f": {', '.join(unsteady)}" if len(unsteady) <= NAMED else ""
        yield f"Not steady from round to round, {len(unsteady)} of {len(advice.ways)} ways{named}."
    yield from _dropped(timing)
    if advice.verdict is not None and isinstance(own["size"], int):
        yield from _rate(advice.verdict.advised.batch_size / own["size"], own)


def _column(timing: Mapping[str, Any]) -> str:
    return "cpu_seconds" if clock_of(timing) == "cpu" else "seconds"


def _dropped(timing: Mapping[str, Any]) -> Iterator[str]:
    by_reason: dict[str, list[str]] = {}
    for one in timing["dropped"]:
        by_reason.setdefault(one["reason"], []).append(str(Way(one["batch_size"], one["micro_size"], 1.0)))
    for reason, ways in by_reason.items():
        yield f"Left out ({reason}): {', '.join(ways)}."


def _rate(factor: float, own: Mapping[str, Any]) -> Iterator[str]:
    """Where to look for the learning rate of another batch size."""
    if factor == 1:
        return
    ends = sorted((own["lr"] * math.sqrt(factor), own["lr"] * (math.sqrt(factor) if _is_adam(own) else factor)))
    rule = "square-root rule" if _is_adam(own) else "square-root and linear rule"
    yield (
        f"The learning rate is to be tuned for the new size; look around optimizer.lr={_span(*ends)} ({rule}, from "
        f"your {own['lr']:g} at {own['size']:,}). docs/scaling.md has the rules that move it by themselves."
    )


def _is_adam(own: Mapping[str, Any]) -> bool:
    return "adam" in own["optimizer"].lower()


def _span(low: float, high: float) -> str:
    return f"{low:.2g}" if low == high else f"{low:.2g} to {high:.2g}"


def command_line(advice: Advice) -> str:
    """The user's own command, with the batch that is advised."""
    assert advice.verdict is not None
    way, own = advice.verdict.advised, advice.measured["own"]
    moved = ("batch.size", "batch.micro_size", "batch.accumulate")
    kept = [one for one in advice.measured["given"] if one.lstrip("+~").partition("=")[0] not in moved]
    added = [f"batch.size={way.batch_size}"]
    if way.is_accumulated:
        added.append(f"batch.micro_size={way.micro_size}")
        if advice.measured["timing"]["has_batch_norm"] and own["group_size"] is None:
            added.append(f"batch_norm.group_size={way.micro_size}")
    return shlex.join(["mbtrain", *kept, *added])
