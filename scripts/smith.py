"""Says whether two arms of a sweep end equal: the learning rate that falls against the batch that grows.

    mbtrain -m experiment=smith_decay,smith_grow seed=0,1,2,3,4,5,6,7,8,9 sweep_dir=SWEEP data_root=DIR
    python scripts/smith.py SWEEP [--margin 0.005] [--score test/accuracy]

Equal within the margin is shown by two one-sided tests (TOST) at 5 %. Printed besides: the updates of each arm, and the
largest relative difference of the logged lr / (batch size x (1 - momentum)) between the arms at the same sample.
"""

import argparse
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import orjson
import yaml

from mbtrain.analysis.contrast import tost
from mbtrain.analysis.statistics import difference_interval, mean_interval
from mbtrain.log.reader import read_rows

ARMS = ("smith_decay", "smith_grow")


def main(arguments: Sequence[str] | None = None) -> None:
    description, examples = (__doc__ or "").split("\n\n", 1)
    parser = argparse.ArgumentParser(
        description=description, epilog=examples, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("sweep", type=Path)
    parser.add_argument("--margin", type=float, default=0.005)
    parser.add_argument("--score", default="test/accuracy")
    options = parser.parse_args(arguments)
    runs = runs_of(options.sweep)
    for line in lines(runs, score=options.score, margin=options.margin):
        print(line)


def runs_of(sweep: Path) -> dict[str, dict[Path, dict[str, Any]]]:
    """The finished runs of each arm: folder and result."""
    found: dict[str, dict[Path, dict[str, Any]]] = defaultdict(dict)
    for file in sorted(sweep.rglob("result.json")):
        name = yaml.safe_load((file.parent / "config.yaml").read_text())["name"]
        found[name][file.parent] = orjson.loads(file.read_bytes())
    return found


def lines(runs: dict[str, dict[Path, dict[str, Any]]], *, score: str, margin: float) -> list[str]:
    """What is to be said, a line each."""
    told, values = [], {}
    for arm in ARMS:
        values[arm] = [result[score] for result in runs[arm].values()]
        updates = sorted({result["iterations"] for result in runs[arm].values()})
        told.append(f"{arm}: {score} {mean_interval(values[arm])}, updates {'/'.join(f'{one:,}' for one in updates)}")
    grow, decay = values["smith_grow"], values["smith_decay"]
    test = tost(grow, decay, margin)
    verdict = "equal within the margin" if test.p < 0.05 else "not shown to be equal"
    told.append(
        f"grow - decay: {difference_interval(grow, decay, level=0.9)}; {test.method}: p = {test.p:.2g}: {verdict}"
    )
    told.append(f"lr / (B (1 - m)): arms differ by at most {noise_gap(*(next(iter(runs[arm])) for arm in ARMS)):.1e}")
    return told


def noise_gap(decay: Path, grow: Path) -> float:
    """The largest relative difference of the noise scale at one sample, mini-batches that are tails left out."""
    curve = {row["samples_seen"]: row["noise_scale_sgd"] for row in _full(decay)}
    pairs = [
        (curve[row["samples_seen"]], row["noise_scale_sgd"]) for row in _full(grow) if row["samples_seen"] in curve
    ]
    return max(abs(one / other - 1) for one, other in pairs)


def _full(run: Path) -> list[dict[str, Any]]:
    rows = list(read_rows(run / "iterations.jsonl"))
    sizes = {row["epoch"]: row["batch_size"] for row in reversed(rows)}
    return [row for row in rows if row["batch_size"] == sizes[row["epoch"]]]


if __name__ == "__main__":
    main()
