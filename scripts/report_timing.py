"""Times the report on made-up logs: many runs, and one very long run. `python scripts/report_timing.py FOLDER`."""

import argparse
import itertools
import json
import math
import resource
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import orjson
import yaml

RATES, SIZES, SEEDS = (0.01, 0.02, 0.05, 0.1, 0.2), (16, 32, 64, 128), range(10)


def main() -> None:
    """Make the logs where they are missing, write both reports, print time, memory and size."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--runs", type=int, default=200)
    parser.add_argument("--iterations", type=int, default=2000)
    parser.add_argument("--long", type=int, default=1_000_000, help="iterations of the long run")
    options = parser.parse_args()
    sweep, run = options.folder / f"sweep-{options.runs}", options.folder / f"run-{options.long}"
    if not sweep.exists():
        make_sweep(sweep, num_runs=options.runs, num_iterations=options.iterations)
    if not run.exists():
        make_run(run, num_iterations=options.long, lr=0.1, batch_size=32, seed=0)
    for folder, what in (
        (sweep, f"{options.runs} runs of {options.iterations:,}"),
        (run, f"1 run of {options.long:,}"),
    ):
        seconds, peak = timed(folder)
        size = (folder / "report.html").stat().st_size
        print(f"{what} iterations: {seconds:.1f} s, {peak / 1e6:.0f} MB of memory, a page of {size / 1e6:.2f} MB")


def timed(folder: Path) -> tuple[float, float]:
    """Seconds of a report from the command line, and the most memory in bytes that a process here has taken so far."""
    started = time.perf_counter()
    subprocess.run([sys.executable, "-m", "mbtrain.analysis", str(folder)], check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - started, 1024 * resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss


def make_sweep(folder: Path, *, num_runs: int, num_iterations: int) -> None:
    """A sweep over learning rate, batch size and seed."""
    jobs = []
    for lr, batch_size, seed in itertools.islice(itertools.product(RATES, SIZES, SEEDS), num_runs):
        overrides = [f"optimizer.lr={lr}", f"batch.size={batch_size}", f"seed={seed}"]
        jobs.append({"folder": ",".join(overrides), "overrides": overrides})
        make_run(folder / ",".join(overrides), num_iterations=num_iterations, lr=lr, batch_size=batch_size, seed=seed)
    factors = ["optimizer.lr", "batch.size", "seed"]
    sweep = {"version": 1, "name": "made_up", "overrides": [], "factors": factors, "jobs": jobs}
    (folder / "sweep.json").write_text(json.dumps(sweep))


def make_run(folder: Path, *, num_iterations: int, lr: float, batch_size: int, seed: int) -> None:
    """A folder as a finished run leaves it, with losses from a formula."""
    folder.mkdir(parents=True)
    generator = np.random.default_rng((seed, batch_size, int(1000 * lr)))
    floor = 0.2 + 0.05 * abs(math.log(lr * 32 / batch_size / 0.05)) + 0.01 * float(generator.standard_normal())
    with (folder / "iterations.jsonl").open("wb") as log:
        for row in iteration_rows(num_iterations, floor, generator, lr=lr, batch_size=batch_size):
            log.write(orjson.dumps(row, option=orjson.OPT_APPEND_NEWLINE))
    with (folder / "epochs.jsonl").open("wb") as log:
        for epoch in range(20):
            done = num_iterations * (epoch + 1) // 20
            score = {"val/loss": floor + 2 / (2 + epoch), "time/elapsed_s": done * 1e-3}
            row = {"iteration": done, "epoch": epoch, "samples_seen": done * batch_size, **score}
            log.write(orjson.dumps(row, option=orjson.OPT_APPEND_NEWLINE))
    config = {"seed": seed, "optimizer": {"lr": lr}, "batch": {"size": batch_size}, "model": {"hidden": [256]}}
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    (folder / "status.json").write_text(json.dumps({"status": "done", "pid": 1, "message": None}))
    result = {"status": "done", "iterations": num_iterations, "seconds": num_iterations * 1e-3, "val/loss": floor + 0.1}
    (folder / "result.json").write_text(json.dumps(result | {"test/loss": floor + 0.12}))


def iteration_rows(
    num_iterations: int, floor: float, generator: np.random.Generator, *, lr: float, batch_size: int
) -> Iterator[dict[str, float | int | bool]]:
    """Rows of iterations.jsonl."""
    noise = generator.standard_normal(num_iterations)
    for index in range(num_iterations):
        yield {
            "iteration": index + 1,
            "epoch": 20 * index // num_iterations,
            "samples_seen": (index + 1) * batch_size,
            "batch_size": batch_size,
            "num_micro_batches": 1,
            "updated": True,
            "lr": lr,
            "train/loss": floor + 2 / (1 + index / 100) + 0.02 * noise[index].item(),
            "train/accuracy": 1 - 1 / (2 + index / 100),
            "time/iteration_s": 1e-3 * (1 + 0.1 * noise[index].item() ** 2),
            "time/elapsed_s": 1e-3 * (index + 1),
            "train/grad_norm": 1 + 0.1 * noise[index].item(),
        }


if __name__ == "__main__":
    main()
