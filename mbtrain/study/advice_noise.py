"""The noise scale that advice rests on: of a short run made for it, or of a finished run's log."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from mbtrain.log.reader import read_rows
from mbtrain.plan.refused import Refused
from mbtrain.study.jobs import Job

# What the run that is only measured gets: averages over all of it, trace and squared gradient apart; and validations
# on the way, which tell a target.
MEASURED = (
    "probe=noise_scale",
    "probe.noise_scale.every=0.5%",
    "probe.noise_scale.half_life=10000ep",
    "validate.every=10%",
    "validate.stop_at=null",
    "tracker=none",
    "checkpoint.every=null",
    "trainer.progress=false",
)


@dataclass(frozen=True)
class MeasuredNoise:
    """B_simple in samples with its 95 % interval (`high` None: unbounded), from how many mini-batches, of which run."""

    scale: float
    low: float
    high: float | None
    num_measured: int
    run: str

    def told(self) -> dict[str, Any]:
        """For advice.json."""
        return asdict(self)


def noise_of(run_dir: Path, *, key: str) -> MeasuredNoise:
    """What the last row with an averaged noise scale says; Refused where there is none."""
    file = run_dir / "iterations.jsonl"
    if not file.is_file():
        raise Refused(f"{key}={run_dir}: has no iterations.jsonl, so it is no run's folder")
    rows = [row for row in read_rows(file) if row.get("noise/averaged_scale") is not None]
    if not rows or rows[-1].get("noise/scale_low") is None:
        raise Refused(
            f"{key}={run_dir}: its log has no noise/averaged_scale with an interval: run with probe=noise_scale"
        )
    last = rows[-1]
    return MeasuredNoise(
        scale=last["noise/averaged_scale"],
        low=last["noise/scale_low"],
        high=last["noise/scale_high"],
        num_measured=len(rows),
        run=str(run_dir),
    )


def measured_run(config: dict[str, Any], overrides: tuple[str, ...], path: Path) -> Job:
    """The job of the run that is made for it."""
    folder = path / "trajectory" / "run"
    own = {"run_dir": str(folder), "sweep_dir": str(folder.parent)}
    return Job(folder, overrides, config | own)
