"""How the run's mini-batches are cut into micro-batches and BN groups, and the line that says so."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mbtrain.plan.batch import MicroBatch, bn_groups, cut, micro_size_of, usable_micro_size
from mbtrain.plan.proportional import NoiseScale
from mbtrain.plan.refused import Refused
from mbtrain.plan.run import RunPlan

# How many changes of size the plan line tells.
SHOWN = 6
# The values of batch.micro_size that a search on the true model settles.
SEARCHED = ("auto", "fastest")


@dataclass(frozen=True)
class Cutting:
    """How a mini-batch of n samples is cut, the micro size in use, and what is worth saying of it."""

    cut: Callable[[int], Sequence[MicroBatch]]
    micro_size: int
    group_size: int | None
    notes: tuple[str, ...] = ()


def cutting_of(config: Mapping[str, Any], plan: RunPlan, *, has_bn: bool, is_flat: bool) -> Cutting:
    """The cutting that the config asks for; Refused where batch norm and micro-batches do not go together.

    `is_flat`: some batch-norm layer gets one value a channel and sample.
    """
    batch, wanted = config["batch"], config["batch_norm"]["group_size"]
    size, notes = plan.largest_size, []
    # Where it is yet to be searched for, the mini-batch is in one piece.
    micro_size = None if batch["micro_size"] in SEARCHED else batch["micro_size"]
    if batch["accumulate"] is not None:
        whole = size if batch["size"] == "all" else batch["size"]
        micro_size = micro_size_of(size=whole, accumulate=batch["accumulate"])
    if not has_bn:
        if wanted is not None:
            notes.append(f"no batch norm in use: batch_norm.group_size={wanted} changes nothing")
        own = micro_size
        _refuse_large_parts(plan, min(own or size, size))
        return Cutting(lambda n: cut(n, micro_size=own)[0].micro_batches, min(own or size, size), None, tuple(notes))
    group_size = size if wanted is None else wanted
    if micro_size is not None and micro_size < size:
        if wanted is None:
            raise Refused(
                f"batch.micro_size={micro_size} splits the mini-batch of {size}, over all of which batch norm is taken "
                f"(batch_norm.group_size=null): set batch_norm.group_size={micro_size}, as accumulation usually does, "
                "or leave micro_size out"
            )
        usable = usable_micro_size(micro_size, min(group_size, size))
        if usable != micro_size:
            notes.append(f"batch.micro_size={micro_size} rounded down to {usable}, whole groups of {group_size}")
        micro_size = usable
    if is_flat:
        _refuse_lonely_samples(plan, group_size)

    _refuse_large_parts(plan, min(micro_size or size, size))

    def cutter(n: int) -> Sequence[MicroBatch]:
        return cut(n, micro_size=micro_size, group_size=n if wanted is None else group_size)[0].micro_batches

    return Cutting(cutter, min(micro_size or size, size), min(group_size, size), tuple(notes))


def _refuse_large_parts(plan: RunPlan, micro_size: int) -> None:
    """The parts in which the noise scale is measured go through the model whole."""
    if not isinstance(plan.schedule, NoiseScale):
        return
    parts, largest = plan.schedule.parts, plan.largest_size
    if -(-largest // parts) > micro_size:
        raise Refused(
            f"batch_schedule.parts={parts}: a part of up to {-(-largest // parts)} samples is larger than "
            f"micro-batches of {micro_size}: set batch_schedule.parts={-(-largest // micro_size)}, or lower "
            "batch_schedule.most"
        )


def _refuse_lonely_samples(plan: RunPlan, group_size: int) -> None:
    """A layer on [n, channels] has one value a channel and sample: a group of one sample has no variance there."""
    for size in plan.sizes:
        if min(bn_groups(size, min(group_size, size))) == 1:
            what = f"batch_norm.group_size={group_size}" if group_size == 1 < size else f"a mini-batch of {size}"
            cure = "batch.drop_last=true" if size < plan.batch_size else "a size of 2 or more, or batch_norm=layer_norm"
            raise Refused(f"{what}: leaves a BN group of one sample, which has no variance: set {cure}")


def plan_line(config: Mapping[str, Any], plan: RunPlan, cutting: Cutting) -> str:
    """The plan of the run in one line.

    batch 256 = 8 micro-batches of 32, batch norm over 32; 54,000 samples, 211 iterations per epoch, the last of 240
    """
    parts = [_batch(plan, cutting)]
    if cutting.group_size is not None:
        parts.append(f", batch norm over {cutting.group_size:,}")
    left_out = f", {plan.num_left_out:,} left out" if plan.num_left_out else ""
    parts.append(f"; {plan.num_samples:,} samples, {_iterations(plan, left_out)}")
    notes, wanted = list(cutting.notes), config["batch"]["size"]
    if wanted != "all" and wanted > plan.num_samples:
        notes.append(f"batch.size={wanted:,} is more than there is: every mini-batch is the whole set")
    return "".join(parts) + "".join(f" ({note})" for note in notes)


def _batch(plan: RunPlan, cutting: Cutting) -> str:
    """What a mini-batch is: one size and its micro-batches, or how the size moves and the largest one's."""
    micro = cutting.cut(plan.largest_size)
    sizes = sorted({one.size for one in micro}, reverse=True)
    last = "" if len(sizes) == 1 else f", the last of {micro[-1].size:,}"
    text = f"{len(micro)} micro-batches of {micro[0].size:,}{last}"
    if plan.tokens is not None:
        split = f" ({plan.largest_size:,} = {text})" if len(micro) > 1 else ""
        return (
            f"batch of at most {plan.tokens.most:,} tokens, {min(plan.sizes):,} to {plan.largest_size:,} samples{split}"
        )
    if plan.is_constant:
        return f"batch {plan.batch_size:,}" + (f" = {text}" if len(micro) > 1 else "")
    split = f" ({plan.largest_size:,} = {text})" if len(micro) > 1 else ""
    if not plan.is_counted:
        return f"batch {plan.batch_size:,}, up to {plan.largest_size:,} as results decide{split}"
    return f"batch {_steps(plan)}{split}"


def _steps(plan: RunPlan) -> str:
    """The sizes and where they begin, the middle ones left out where they are many."""
    told = [f"{size:,} from {start / plan.samples_per_epoch:.3g}ep" for start, size in plan.batch_sizes.steps[1:]]
    shown = told if len(told) <= SHOWN else [*told[: SHOWN - 2], "…", told[-1]]
    return ", ".join([f"{plan.batch_size:,}", *shown])


def _iterations(plan: RunPlan, left_out: str) -> str:
    each = "iteration" if plan.iterations_per_epoch == 1 else "iterations"
    if plan.is_constant:
        size = plan.iteration(plan.iterations_per_epoch - 1).size
        tail = f", the last of {size:,}" if size < plan.batch_size else ""
        return f"{plan.iterations_per_epoch:,} {each} per epoch{tail}{left_out}; {plan.num_iterations:,} in all"
    if not plan.is_counted:
        return f"{plan.iterations_per_epoch:,} {each} per epoch at first; how many in all is not known ahead"
    last = plan.iterations_in(plan.num_epochs - 1)
    return (
        f"{plan.iterations_per_epoch:,} {each} in the first epoch{left_out}, {last:,} in the last; "
        f"{plan.num_iterations:,} in all"
    )
