"""Settles `batch.micro_size=auto|fastest` before the first iteration, by whole updates of the true model."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from statistics import median
from typing import Any

from mbtrain.assembly import Assembly
from mbtrain.cutting import SEARCHED, cutting_of, plan_line
from mbtrain.norm.groups import has_batch_norm
from mbtrain.plan.batch import MicroBatch
from mbtrain.plan.micro_sizes import MicroSizes, cut_at, halvings
from mbtrain.plan.refused import Refused
from mbtrain.training.clock import Clock
from mbtrain.training.dry_run import DryRun
from mbtrain.training.forward import Forward
from mbtrain.training.halving import out_of_memory
from mbtrain.training.update import Update

Tell = Callable[[str], None]
Cuts = Mapping[int, Sequence[MicroBatch]]
# What `fastest` may spend on its rounds, each of one update a candidate, and how many of them it wants.
SECONDS, ROUNDS = 4.0, 15
# A candidate is left out, and smaller ones are not tried, where its first time is so many times the best.
TOO_SLOW = 2.0


def with_micro_size(assembly: Assembly, chosen: Mapping[str, Any], tell: Tell) -> Assembly:
    """The assembly with the micro size that is wanted, which `chosen` holds where the run has begun already.

    Raises Refused where not even the smallest micro-batch runs. Weights, buffers, optimizer and generators are bit for
    bit what they were.
    """
    wanted = assembly.config["batch"]["micro_size"]
    if wanted not in SEARCHED:
        return assembly
    if "micro_size" in chosen:
        return _cut_by(assembly, MicroSizes(chosen["micro_size"], chosen.get("halvings", ())))
    candidates, group_size = _candidates(assembly), assembly.bn_group_size
    cuts = {size: cut_at(candidates[0], size, group_size=group_size) for size in candidates}
    search = _largest if wanted == "auto" else _fastest
    found = search(dry_run(assembly, candidates[0]), cuts, tell)
    if found is None:
        raise Refused(out_of_memory(wanted, candidates[-1], group_size, assembly.splits))
    return _cut_by(assembly, MicroSizes(found))


def _candidates(assembly: Assembly) -> list[int]:
    """The largest mini-batch that is known ahead, and its halves; a larger one later is carried by micro-batches."""
    largest = max(assembly.plan.sizes)
    return halvings(largest, assembly.bn_group_size) if assembly.splits else [largest]


def dry_run(assembly: Assembly, size: int) -> DryRun:
    """Updates of a mini-batch of `size` as the run would do them, to be taken back."""
    config, loader = assembly.config, assembly.loader(Clock(assembly.plan))
    parameters = [one for one in assembly.model.parameters() if one.requires_grad]
    clip_norm = config["optimizer"]["clip_norm"]
    return DryRun(
        loader.first(size),
        Forward(assembly.model, assembly.loss, assembly.groups),
        Update(parameters, assembly.optimizer, clip_norm=clip_norm, ema=assembly.ema),
        seed=config["seed"],
        precision=config["trainer"]["precision"],
    )


def _largest(dry_run: DryRun, cuts: Cuts, tell: Tell) -> int | None:
    """The first candidate that runs, each really tried."""
    for size, cut in cuts.items():
        if dry_run.runs(cut):
            return size
        tell(f"batch.micro_size=auto: out of memory at {size:,}")
    return None


def _fastest(dry_run: DryRun, cuts: Cuts, tell: Tell) -> int | None:
    """The candidate whose median update is shortest, in rounds that take each in turn."""
    if len(cuts) == 1:
        return next(iter(cuts))
    with dry_run.taken_back():
        first = _first_times(dry_run, cuts)
        if not first:
            return None
        num_rounds = max(1, min(ROUNDS, int(SECONDS / sum(first.values()))))
        rounds = [[dry_run.seconds(cuts[size]) for size in first] for _ in range(num_rounds)]
    columns = dict(zip(first, zip(*rounds, strict=True), strict=True))
    medians = {size: median(times) for size, times in columns.items() if None not in times}
    fastest = min(medians, key=lambda size: medians[size])
    for line in _table(medians, cuts, fastest, num_rounds):
        tell(line)
    return fastest


def _first_times(dry_run: DryRun, cuts: Cuts) -> dict[int, float]:
    """Seconds of one update of each candidate that runs, down to where they have become too slow."""
    found: dict[int, float] = {}
    for size, cut in cuts.items():
        if dry_run.seconds(cut) is None or (seconds := dry_run.seconds(cut)) is None:
            continue
        if found and seconds > TOO_SLOW * min(found.values()):
            break
        found[size] = seconds
    return found


def _table(medians: Mapping[int, float], cuts: Cuts, fastest: int, num_rounds: int) -> Iterator[str]:
    yield f"batch.micro_size=fastest: one update of {next(iter(cuts)):,} samples, median of {num_rounds}"
    yield "  micro size  micro-batches  milliseconds"
    for size, seconds in medians.items():
        mark = "  taken" if size == fastest else ""
        yield f"  {size:>10,}  {len(cuts[size]):>13,}  {1000 * seconds:>12,.2f}{mark}"


def _cut_by(assembly: Assembly, sizes: MicroSizes) -> Assembly:
    """Its mini-batches cut at the size that was found, and the plan line that says so."""
    plan, wanted = assembly.plan, assembly.config["batch"]["micro_size"]
    size = None if sizes.first >= max(plan.sizes) else sizes.first
    config = {**assembly.config, "batch": {**assembly.config["batch"], "micro_size": size}}
    cutting = cutting_of(config, plan, has_bn=has_batch_norm(assembly.model), is_flat=assembly.is_flat)
    notes = [f"batch.micro_size={wanted}: {sizes.first:,}"]
    notes += [f"{halved:,} from iteration {iteration:,}" for iteration, halved in sizes.halvings]
    if not assembly.splits:
        notes.append("batch norm over the whole mini-batch cannot be cut: batch_norm.group_size=N lets it")
    line = f"{plan_line(config, plan, cutting)} ({', '.join(notes)})"
    return replace(assembly, cut=cutting.cut, plan_line=line, micro_sizes=sizes)
