"""The figure of docs/performance.md: what an iteration costs by each way of training, over the loop written by hand."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mbtrain.analysis import png
from mbtrain.analysis.charts import DotRow, Dots
from timing.page import CASES

DRAWN = ("tiny32", "mlp32", "mlp256", "cnn32")
# What a user would choose between; the ablations stand in a table.
PEERS = (
    "(a')",
    "(a), torch.compile(model)",
    "(a), DataLoader",
    "Fabric",
    "Lightning, self.log, CSV",
    "Lightning, self.log, wandb offline",
    "Lightning, template's module, CSV",
    "ours",
    "ours, compiled",
)


def drawn(loops: Mapping[str, Any], folder: Path) -> list[Path]:
    """A PNG a case, from the record's table of loops."""
    return png.save([_chart(name, loops[name]["peers"]) for name in DRAWN if name in loops], folder)


def _chart(case: str, peers: Mapping[str, Any]) -> Dots:
    rows = [_row(name, peers[name]["cpu"]) for name in PEERS if name in peers]
    title = f"{CASES[case]}: CPU time of an iteration, in times (a)"
    return Dots(
        f"performance-{case}", title, "times the loop written by hand (a); small dots are rounds", rows, is_x_log=True
    )


def _row(name: str, cpu: Mapping[str, Any]) -> DotRow:
    low, high = cpu["quartiles"]
    return DotRow(name, cpu["ratios"], cpu["ratio"], low, high, f"{name}: {cpu['ratio']:.2f}")
