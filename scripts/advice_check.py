"""Holds the advice's prediction against what then happens: predicted and observed ratios of mean time to a loss.

    python scripts/advice_check.py OUT data_root=DIR      about half an hour on two CPU cores

Fashion-MNIST, an MLP 784-128-10 to validation loss 0.40 at a constant learning rate, with SGD with momentum and with
AdamW. For each the advice is calibrated; then stepping on every 32 (S), accumulating 8 x 32 (A), one piece of 256 (D)
are trained from fresh seeds, and their updates timed anew. Predicted and observed both have an interval: the
calibration's seeds and the fresh seeds, drawn anew.
"""

import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import orjson

from mbtrain.analysis.advice import Advice, advice_of, ways_of
from mbtrain.analysis.target_study import cases_of
from mbtrain.analysis.trajectory import trajectories

MODELS = {
    "mlp_sgd": ["optimizer=sgd", "optimizer.nesterov=false", "optimizer.lr=0.02"],
    "mlp_adamw": ["optimizer=adamw", "optimizer.lr=0.0005"],
}
COMMON = [
    "batch.size=64",
    "dataset=fashion_mnist",
    "model=mlp",
    "model.hidden=[128]",
    "lr_schedule=constant",
    "trainer.threads=1",
]
CALIBRATED = "study.calibrated_sizes=[16,64,256,1024]"
# Seeds that the calibration had too, which are no test of it.
SEEN = 6
CUTS = {"S": (32, 32), "A": (256, 32), "D": (256, 256)}
ARMS = {"S": "step", "A": "accumulate", "D": "direct"}
PAIRS = (("A", "S"), ("D", "S"), ("A", "D"))
NEAR, NO_SIGN = 0.2, (0.85, 1.15)


def main(out: Path, overrides: Sequence[str]) -> None:
    """Measure what is not there yet, and print the table."""
    print("| model | ratio | predicted | observed | off by | held |\n| --- | --- | --- | --- | --- | --- |")
    for name, own in MODELS.items():
        folder = out / name
        given = [*COMMON, *own, *overrides]
        run(
            ["study=advise", "study.calibrate=true", "study.target=val/loss<=0.4", CALIBRATED, *given],
            folder / "advice",
        )
        run(["study=advice_check", f"study.scale={name}", *overrides], folder / "check")
        run(["study=advise", "study.sizes=[32,256]", f"study.from={trained(folder)}", *given], folder / "again")
        predicted = advice_of(read(folder / "advice" / "measured.json"))
        for row in rows(name, predicted, samples(folder / "check"), seconds(folder / "again")):
            print(row, flush=True)


def run(overrides: Sequence[str], folder: Path) -> None:
    """`mbtrain` in a folder, which it continues."""
    done = subprocess.run([sys.executable, "-m", "mbtrain", *overrides, f"study_dir={folder}"], stderr=subprocess.PIPE)
    if done.returncode:
        raise SystemExit(done.stderr.decode())


def trained(folder: Path) -> Path:
    """The run whose noise scale is known."""
    return folder / "advice" / "trajectory" / "run"


def read(file: Path) -> dict[str, Any]:
    """A JSON file."""
    return orjson.loads(file.read_bytes())


def samples(folder: Path) -> dict[str, np.ndarray]:
    """Samples to the target of each arm's fresh seeds."""
    study = read(folder / "study.json")
    # The arm with another's rate is none of a page's, but of this table.
    (case,) = cases_of({**study, "rate_of": {}}, trajectories(folder, study))
    return {
        arm: np.array(next(one for one in case.arms if one.name == name).samples[SEEN:]) for arm, name in ARMS.items()
    }


def seconds(folder: Path) -> dict[str, float]:
    """Seconds of one update of each arm, timed after the runs."""
    found = {(way.batch_size, way.micro_size): way.seconds for way in ways_of(read(folder / "timing.json"))}
    return {arm: found[cut] for arm, cut in CUTS.items()}


def rows(name: str, advice: Advice, taken: Mapping[str, np.ndarray], timed: Mapping[str, float]) -> list[str]:
    """A line a pair of arms: predicted, observed, how far apart, whether it held."""
    ways = {
        arm: next(way for way in advice.ways if (way.batch_size, way.micro_size) == cut) for arm, cut in CUTS.items()
    }
    lines = []
    for arm, to in PAIRS:
        predicted = advice.ratio(ways[arm], ways[to])
        assert predicted.estimate is not None
        pace = (timed[arm] / CUTS[arm][0]) / (timed[to] / CUTS[to][0])
        observed = pace * taken[arm].mean() / taken[to].mean()
        low, high = pace * np.quantile(drawn_means(taken[arm], 1) / drawn_means(taken[to], 2), (0.025, 0.975))
        off = predicted.estimate / observed - 1
        has_sign = not NO_SIGN[0] <= predicted.estimate <= NO_SIGN[1]
        is_held = abs(off) <= NEAR and not (has_sign and (predicted.estimate < 1) != (observed < 1))
        lines.append(
            f"| {name} | {arm}/{to} | {predicted} | {observed:.2f} [{low:.2f}, {high:.2f}], n = {len(taken[arm])} | "
            f"{off:+.0%} | {'yes' if is_held else 'NO'} |"
        )
    return lines


def drawn_means(values: np.ndarray, seed: int) -> np.ndarray:
    """Means of the values drawn anew, many times."""
    return values[np.random.default_rng(seed).integers(0, len(values), (5000, len(values)))].mean(axis=1)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
