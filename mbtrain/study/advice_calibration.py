"""The calibration of advice: the user's own config, trained to a target at a few batch sizes, each at its best rate."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from mbtrain.log.reader import read_rows
from mbtrain.plan.refused import Refused
from mbtrain.study.design import Case, Design, Grid, Target

CASE = "own"
# Batch sizes at the most, and how many by default: the ends and what lies between.
MOST, USUAL = 7, 4
# Under a constant rate a run is given up after so many times the samples that the user's own config took; besides it
# has the updates that those samples would be at a B_crit of so many noise scales.
PATIENCE, CRITICAL_PER_NOISE = 2, 2
# Validations on the way that the user's own config took.
POINTS = 30


@dataclass(frozen=True)
class Search:
    """How much is spent: seeds that choose a learning rate, seeds that count."""

    num_tuning_seeds: int
    num_seeds: int


def target_of(wanted: str | None, run_dir: Path) -> tuple[Target, int, str]:
    """The target, about how many samples it takes, and a sentence on where both come from.

    Without one that is wanted it is the validation loss at the end of the run at `run_dir`.
    """
    rows = [row for row in read_rows(run_dir / "epochs.jsonl") if row.get("val/loss") is not None]
    if not rows:
        raise Refused("study.calibrate=true: there is no validation set to see a target on: give dataset.val_fraction")
    if wanted is None:
        # Rounded up, so that the run itself is there.
        loss = rows[-1]["val/loss"]
        step = 10.0 ** (math.floor(math.log10(loss)) - 2)
        target = Target("val/loss", float(f"{math.ceil(loss / step) * step:.3g}"))
        samples = rows[-1]["samples_seen"]
        return target, samples, f"The target {target} is what your own config reaches after {samples:,} samples."
    target = parsed(str(wanted))
    reached = [row["samples_seen"] for row in rows if row.get(target.key, math.inf) <= target.below]
    if reached:
        return target, reached[0], f"Your own config reaches the target {target} within {reached[0]:,} samples."
    samples = rows[-1]["samples_seen"]
    return target, samples, f"Your own config has not reached the target {target} after {samples:,} samples."


def parsed(text: str) -> Target:
    """The target as it is typed; Refused where it is none."""
    key, _, below = text.replace("<=", "<").partition("<")
    try:
        value = float(below)
    except ValueError:
        raise Refused(f"study.target={text}: must read like val/loss<=0.4") from None
    if not key.startswith("val/"):
        raise Refused(f"study.target={text}: must read like val/loss<=0.4")
    return Target(key.strip(), value)


def calibrated_sizes(candidates: Sequence[int], wanted: Sequence[int] | None) -> list[int]:
    """Two to seven batch sizes to train: those wanted, else the ends of the candidates and even steps between.

    >>> calibrated_sizes([16, 32, 64, 128, 256, 512, 1024], None)
    [16, 64, 256, 1024]
    """
    if wanted is not None:
        return sorted(set(wanted))
    last = len(candidates) - 1
    number = min(USUAL, len(candidates))
    return sorted({candidates[round(place * last / (number - 1))] for place in range(number)}) if last else []


def design_of(
    sizes: Sequence[int], target: Target, samples: int, *, values: Mapping[str, Any], noise_scale: float, search: Search
) -> Design:
    """The study: arms are batch sizes, all else is the user's own config (`values`), which took about `samples`."""
    size, lr = values["batch"]["size"], values["optimizer"]["lr"]
    own_size = size if isinstance(size, int) else max(sizes)
    # Where the rate falls with the length, every length is a run of its own, and they are doubled at need.
    is_constant = values["lr_schedule"]["_target_"].endswith(".Constant")
    arms = {f"b{size}": (f"batch.size={size}", "batch.micro_size=null", "batch.accumulate=null") for size in sizes}
    reference = min(sizes, key=lambda size: abs(math.log(size / own_size)))
    case = Case(
        CASE,
        overrides=(),
        lr=lr * math.sqrt(reference / own_size),
        length=samples * (PATIENCE if is_constant else 1),
        updates=math.ceil(samples / max(min(sizes), CRITICAL_PER_NOISE * noise_scale)),
        validate_every=max(1, samples // POINTS),
    )
    return Design(
        name="calibration",
        question=f"How many updates to {target}, by batch size?",
        scale=CASE,
        budget="target",
        also=(),
        target=target,
        arms=arms,
        reference=f"b{reference}",
        primary=None,
        contrasts=(),
        rate_of={},
        times={},
        margin=0.02,
        columns=(),
        limits=(),
        overrides=(),
        grid=Grid(points=5, factor=2.0, most_extensions=6, refinements=1, power=0.5),
        cases=(case,),
        num_tuning_seeds=search.num_tuning_seeds,
        num_seeds=search.num_seeds,
    )


def told(study_dir: Path, sentence: str) -> dict[str, Any]:
    """What measured.json says of it: samples to the target of every seed by batch size, and what was left out why."""
    from mbtrain.analysis.target_study import cases_of
    from mbtrain.analysis.trajectory import trajectories

    study: Mapping[str, Any] = orjson.loads((study_dir / "study.json").read_bytes())
    (case,) = cases_of(study, trajectories(study_dir, study))
    return {
        "target": f"{study['target']['key']}<={study['target']['below']:g}",
        "sentence": sentence,
        "schedule": case.schedule,
        "samples": {str(arm.size): list(arm.samples) for arm in case.fitted},
        "rates": {str(arm.size): arm.rates[0] for arm in case.fitted},
        "left_out": {str(arm.size): arm.why_not for arm in case.arms if arm.why_not},
    }
