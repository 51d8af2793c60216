"""Advice in words: the recommendation, what it rests on, what to mind, the command."""

import math
import shlex
from collections.abc import Iterator

from mbtrain.analysis.accumulation import Way, has_settled, law
from mbtrain.analysis.advice import Advice, clock_of, is_contended

# The rms log-residual of a hyperbola that fits.
FITS = 0.06
# So many ways are named in a sentence.
NAMED = 4
LIMITS = (
    "Ratios are of MEAN times to the same loss, each way with a learning rate tuned for its batch size, under one "
    "optimizer and schedule; a single run differs from the mean by 10 to 20 %. Take a ratio from 0.85 to 1.15 as no "
    "difference.",
    "Not checked: batch norm (accumulation is ghost batch norm there), and learning rates moved by a rule, not tuned.",
)


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
    first = "Whether to accumulate cannot be told"
    if found.accumulate is not None:
        verb = "Accumulate" if found.accumulate else "Do not accumulate"
        first = f"{verb}. What batch size cannot be told"
    is_calibrated = advice.critical is not None and advice.critical.fit is not None
    cure = "" if is_calibrated else " study.calibrate=true would tell."
    return f"{first}: {span}, and {ends}. Between the two {told} takes {at_most}.{cure}"


def sentences(advice: Advice) -> Iterator[str]:
    """What the recommendation rests on, and what to mind."""
    yield from _noise(advice)
    yield from _calibration(advice)
    if advice.critical is not None:
        yield from _spoken_law(advice)
        yield from _against_own(advice)
    yield from _cautions(advice)


def _noise(advice: Advice) -> Iterator[str]:
    noise, critical = advice.measured["noise"], advice.critical
    where = noise["run"] if noise["trajectory"] is None else f"the first {noise['trajectory']}"
    high = "unbounded" if noise["high"] is None else f"{noise['high']:,.0f}"
    told = (
        f"Noise scale {noise['scale']:,.0f} [{noise['low']:,.0f}, {high}] samples, from {noise['num_measured']:,} "
        f"mini-batches of {where}."
    )
    if critical is not None and critical.fit is None:
        left = "half to ten times itself: " if math.isfinite(critical.high) else ""
        told += (
            " It is not B_crit, which depends on optimizer, schedule and target besides; it leaves open "
            f"{left}{_range(critical.low, critical.high)}."
        )
    yield told


def _calibration(advice: Advice) -> Iterator[str]:
    calibration = advice.measured["calibration"]
    if calibration is None:
        return
    yield calibration["sentence"]
    for size, why in calibration["left_out"].items():
        yield f"Batch {int(size):,} is left out of the calibration: {why}."
    critical = advice.critical
    if critical is None or critical.fit is None:
        yield "The calibration failed: fewer than two batch sizes count. The range is that of the noise scale."
        return
    fit = critical.fit
    bend = "" if fit.is_bent else "; no bend is visible, so that it is a bound"
    yield (
        f"Calibrated under {advice.measured['own']['optimizer']} and a {calibration['schedule']} learning rate, tuned "
        f"at each batch size, to {calibration['target']}: B_crit {fit.critical:,.0f} [{critical.low:,.0f}, "
        f"{critical.high:,.0f}] (bootstrap over seeds, rms log-residual {fit.residual:.3f}){bend}. Another optimizer, "
        "schedule or target has another."
    )
    if fit.residual > FITS:
        yield "The hyperbola fits badly, which the interval does not know of: calibrate more sizes, or another target."
    beyond = sorted({way.batch_size for way in advice.ways if not fit.smallest <= way.batch_size <= fit.largest})
    if beyond:
        yield (
            f"Extrapolated, and not to be trusted: batch {', '.join(f'{size:,}' for size in beyond)} (calibrated were "
            f"{fit.smallest:,.0f} to {fit.largest:,.0f})."
        )


def _spoken_law(advice: Advice) -> Iterator[str]:
    """The user's own accumulation, or else the best one, against stepping at each micro-batch and against one piece."""
    assert advice.critical is not None
    by_cut = {(way.batch_size, way.micro_size): way for way in advice.ways}
    ends = (advice.critical.low, advice.critical.high)
    accumulated = [way for way in advice.ways if way.is_accumulated and (way.micro_size, way.micro_size) in by_cut]
    if not accumulated:
        return
    own = advice.own
    best = min(accumulated, key=lambda way: math.prod(way.cost(end) for end in ends))
    way = own if own is not None and own in accumulated else best
    step, direct = by_cut[way.micro_size, way.micro_size], by_cut.get((way.batch_size, way.batch_size))
    found = law(way, step, ends)
    answers = {True: "it pays", False: "it does not pay", None: "it cannot be told whether it pays"}
    share = max(0.0, found.once_share)
    told = (
        f"{way} against stepping on every {way.micro_size:,}: what an update costs once is {share:.2f} of "
        f"a micro-batch; accumulation pays where that is above {way.batch_size:,} / B_crit = {found.needed[1]:.2f} to "
        f"{found.needed[0]:.2f}: {answers[found.pays]}. Expected ratio of mean times {_to_loss(advice)}: "
        f"{advice.ratio(way, step)}."
    )
    if direct is not None:
        told += f" Against {direct}, the same updates: {way.seconds / direct.seconds:.2f} times the time."
    yield told


def _against_own(advice: Advice) -> Iterator[str]:
    own, found = advice.own, advice.verdict
    if own is not None and found is not None and own != found.advised:
        yield (
            f"{found.advised} against your own {own}: expected ratio of mean times {_to_loss(advice)} "
            f"{advice.ratio(found.advised, own)}."
        )


def _to_loss(advice: Advice) -> str:
    calibration = advice.measured["calibration"]
    return "to the same loss" if calibration is None else f"to {calibration['target']}"


def _cautions(advice: Advice) -> Iterator[str]:
    timing, own = advice.measured["timing"], advice.measured["own"]
    if timing["has_batch_norm"] and advice.verdict is not None:
        yield (
            "The model has batch norm: accumulating makes ghost batch norm of it, with groups of the micro size, and "
            "another batch size another batch norm: the law was not checked there."
        )
    is_by_cpu = clock_of(timing) == "cpu"
    if is_contended(timing):
        used = "the process's own seconds of its fastest rounds are used" if is_by_cpu else "the times are doubtful"
        yield f"Something else kept the machine busy while updates were timed: {used}."
    rounds = {str(way): advice.of(way)["cpu_seconds" if is_by_cpu else "seconds"] for way in advice.ways}
    unsettled = [way for way, own in rounds.items() if not has_settled(own)]
    if unsettled:
        named = f" ({', '.join(unsettled)})" if len(unsettled) <= NAMED else ""
        yield (
            f"The fastest rounds of {len(unsettled)} of {len(rounds)} ways{named} do not agree within a tenth, which "
            "no interval here holds: ask again, in another study_dir, when the machine is quiet."
        )
    by_reason: dict[str, list[str]] = {}
    for one in timing["dropped"]:
        by_reason.setdefault(one["reason"], []).append(str(Way(one["batch_size"], one["micro_size"], 1.0)))
    for reason, ways in by_reason.items():
        yield f"Left out ({reason}): {', '.join(ways)}."
    if advice.verdict is not None and isinstance(own["size"], int):
        yield from _rate(advice, advice.verdict.advised.batch_size / own["size"])


def _rate(advice: Advice, factor: float) -> Iterator[str]:
    """Where to look for the learning rate of another batch size."""
    own = advice.measured["own"]
    if factor == 1 or tuned_rate(advice) is not None:
        return
    is_adam = "adam" in own["optimizer"].lower()
    ends = sorted((own["lr"] * math.sqrt(factor), own["lr"] * (math.sqrt(factor) if is_adam else factor)))
    span = f"{ends[0]:.2g}" if is_adam else f"{ends[0]:.2g} to {ends[1]:.2g}"
    rule = "square-root rule" if is_adam else "square-root and linear rule"
    yield (
        f"The learning rate is to be tuned for the new size; look around optimizer.lr={span} ({rule}, from your "
        f"{own['lr']:g} at {own['size']:,}). docs/scaling.md has the rules that move it by themselves."
    )


def tuned_rate(advice: Advice) -> float | None:
    """The learning rate that the calibration found best for the batch size that is advised."""
    calibration = advice.measured["calibration"]
    if calibration is None or advice.verdict is None:
        return None
    return calibration["rates"].get(str(advice.verdict.advised.batch_size))


def command_line(advice: Advice) -> str:
    """The user's own command, with the batch that is advised."""
    assert advice.verdict is not None
    way, own, rate = advice.verdict.advised, advice.measured["own"], tuned_rate(advice)
    moved = ["batch.size", "batch.micro_size", "batch.accumulate", *([] if rate is None else ["optimizer.lr"])]
    kept = [one for one in advice.measured["given"] if one.lstrip("+~").partition("=")[0] not in moved]
    added = [f"batch.size={way.batch_size}"]
    if way.is_accumulated:
        added.append(f"batch.micro_size={way.micro_size}")
        if advice.measured["timing"]["has_batch_norm"] and own["group_size"] is None:
            added.append(f"batch_norm.group_size={way.micro_size}")
    if rate is not None:
        added.append(f"optimizer.lr={rate:g}")
    return shlex.join(["mbtrain", *kept, *added])


def _range(low: float, high: float) -> str:
    if math.isinf(high):
        return f"{low:,.0f} and up"
    return f"{low:,.0f} to {high:,.0f}"
