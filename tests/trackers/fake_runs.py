"""A fake run folder, written as the trainer writes one."""

import json
from pathlib import Path

import yaml

from mbtrain.log.status import write_status

ROOT = Path(__file__).parents[2]


class FakeRun:
    """A run of `num_iterations`, an epoch every ten."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir()

    def configure(self, *names: str, trackers: dict | None = None, **options) -> None:
        """Write config.yaml with the shipped options of the trackers named."""
        nodes = {name: yaml.safe_load((ROOT / "conf" / "tracker" / f"{name}.yaml").read_text()) for name in names}
        for name, node in nodes.items():
            node.update(options.get(name, {}))
        config = {
            "name": "a fake",
            "run_dir": str(self.folder),
            "seed": 0,
            "batch": {"size": 3},
            "tracker": nodes | (trackers or {}),
        }
        (self.folder / "config.yaml").write_text(yaml.safe_dump(config))

    def write(self, first: int, last: int) -> None:
        """Append the rows of iterations first to last."""
        with (
            (self.folder / "iterations.jsonl").open("a", buffering=1) as iterations,
            (self.folder / "epochs.jsonl").open("a", buffering=1) as epochs,
        ):
            for i in range(first, last + 1):
                iterations.write(json.dumps(iteration_row(i)) + "\n")
                if i % 10 == 0:
                    epochs.write(json.dumps(epoch_row(i)) + "\n")

    def finish(self, status: str = "done") -> None:
        """End as the trainer does."""
        result = {"status": status, "test/accuracy": 0.97, "val/loss": 0.25, "samples_per_s": 1e4, "seconds": 2.5}
        more = {"weights_sha256": "ab12", "versions": {"torch": "2.13.0"}, "test/loss": None}
        (self.folder / "result.json").write_text(json.dumps(result | more))
        write_status(self.folder, status)

    def state(self, name: str) -> dict:
        """RUN/trackers/NAME.json."""
        return json.loads((self.folder / "trackers" / f"{name}.json").read_text())


def iteration_row(i: int) -> dict:
    row = {"iteration": i, "epoch": (i - 1) // 10, "samples_seen": 3 * i, "batch_size": 3, "num_micro_batches": 1}
    row |= {"updated": True, "lr": 0.1, "train/loss": 1 / i, "train/accuracy": 0.5, "time/elapsed_s": i * 0.25}
    if i == 2:
        row["train/loss"] = None
    if i % 7 == 0:
        row["noise/scale"] = float(i)
    return row


def epoch_row(i: int) -> dict:
    row = {"iteration": i, "epoch": (i - 1) // 10, "samples_seen": 3 * i, "train/loss": 0.5, "val/loss": 0.75}
    return row | {"time/epoch_s": 1.5}
