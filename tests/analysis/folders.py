"""Folders of runs and sweeps as training leaves them, made in no time."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from mbtrain.analysis.experiment import Experiment, experiment
from mbtrain.analysis.runs import find
from mbtrain.analysis.score import Score


def make_run(
    folder: Path,
    *,
    score: float | None = 0.5,
    config: Mapping[str, Any] | None = None,
    status: str = "done",
    message: str | None = None,
    pid: int = 1,
    num_iterations: int = 40,
    **columns: float,
) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    config = {"seed": 0, "batch": {"size": 32}, "optimizer": {"lr": 0.1}} | dict(config or {})
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    (folder / "status.json").write_text(json.dumps({"status": status, "pid": pid, "message": message}))
    write_rows(folder / "iterations.jsonl", [row(index, **columns) for index in range(num_iterations)])
    half, end = ({"iteration": n, "samples_seen": 32 * n} for n in (num_iterations // 2, num_iterations))
    write_rows(folder / "epochs.jsonl", [one | {"val/loss": score, "time/elapsed_s": 1.0} for one in (half, end)])
    if status == "done":
        result = {"status": "done", "iterations": num_iterations, "val/loss": score, "test/loss": score, "seconds": 2.0}
        (folder / "result.json").write_text(json.dumps(result))
    return folder


def row(index: int, **columns: float) -> dict[str, float]:
    times = {"time/iteration_s": 0.025, "time/elapsed_s": 0.025 * (index + 1)}
    own = {"batch_size": 32, "updated": True, "lr": 0.1, "train/loss": 2 / (1 + index)}
    return {"iteration": index + 1, "epoch": 0, "samples_seen": 32 * (index + 1)} | own | times | columns


def write_rows(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    path.write_text("".join(json.dumps(one) + "\n" for one in rows))


def make_sweep(folder: Path, scores: Mapping[tuple[str, ...], float | None], **fixed: Any) -> Path:
    """A sweep of done jobs: overrides of each -> its score."""
    jobs = []
    for overrides, score in scores.items():
        jobs.append({"folder": ",".join(overrides), "overrides": list(overrides)})
        make_run(folder / ",".join(overrides), score=score, config=nested(overrides), **fixed)
    write_sweep(folder, jobs)
    return folder


def write_sweep(folder: Path, jobs: Sequence[Mapping[str, Any]], given: Sequence[str] = ()) -> None:
    factors = list(dict.fromkeys(one.partition("=")[0] for job in jobs for one in job["overrides"]))
    sweep = {"version": 1, "name": folder.name, "overrides": list(given), "factors": factors, "jobs": list(jobs)}
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "sweep.json").write_text(json.dumps(sweep))


def nested(overrides: Sequence[str]) -> dict[str, Any]:
    config: dict[str, Any] = {}
    for one in overrides:
        key, _, value = one.partition("=")
        *parents, name = key.split(".")
        place = config
        for parent in parents:
            place = place.setdefault(parent, {})
        place[name] = yaml.safe_load(value)
    return config


def grid(function: Any, *, rates: Sequence[float], sizes: Sequence[int], seeds: int) -> dict[tuple[str, ...], float]:
    """Scores of a full grid of learning rate, batch size and seed."""
    return {
        (f"optimizer.lr={lr}", f"batch.size={size}", f"seed={seed}"): function(lr, size, seed)
        for lr in rates
        for size in sizes
        for seed in range(seeds)
    }


def experiment_of(*folders: Path, key: str = "val/loss") -> Experiment:
    return experiment(find(folders), Score(key))
