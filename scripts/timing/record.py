"""What was measured, where and when: results.json and README.md, each table with the machine, versions and commit."""

import datetime
import json
import os
import platform
import subprocess
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from timing.page import page

# Tables of cases whose peers come one by one: what is not measured again stays.
BY_CASE = ("loops", "alone")
PACKAGES = ("mbtrain", "torch", "pytorch-lightning", "numpy")
ROOT = Path(__file__).parents[2]


def circumstances(command: str) -> dict[str, Any]:
    """Machine, versions, commit and command: what a figure means nothing without."""
    return {
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="minutes"),
        "command": command,
        "niceness": os.getpriority(os.PRIO_PROCESS, 0),
        "commit": _git("rev-parse", "--short=12", "HEAD"),
        "is_changed": bool(_git("status", "--porcelain", "--", "mbtrain", "conf")),
        "machine": _machine(),
        "versions": {"python": platform.python_version()} | {name: version(name) for name in PACKAGES},
    }


class Record:
    """All tables by name; those of an earlier command stay until they are measured again."""

    def __init__(self, folder: Path | None) -> None:
        self._path = None if folder is None else folder / "results.json"
        has_earlier = self._path is not None and self._path.exists()
        self.tables: dict[str, Any] = json.loads(self._path.read_text()) if self._path and has_earlier else {}

    def add(self, table: str, content: dict[str, Any], at: dict[str, Any]) -> None:
        """Take in a table that was measured under `at`; of the loops, a case with some of its peers."""
        if table in BY_CASE:
            cases = self.tables.setdefault(table, {})
            for name, case in content.items():
                peers = {peer: row | {"circumstances": at} for peer, row in case["peers"].items()}
                earlier = cases.get(name, {})
                cases[name] = earlier | case | {"peers": earlier.get("peers", {}) | peers}
        else:
            self.tables[table] = content | {"circumstances": at}
        self._write()

    def _write(self) -> None:
        if self._path is not None:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._path.write_text(json.dumps(self.tables, indent=1) + "\n")
            (self._path.parent / "README.md").write_text(page(self.tables))


def _machine() -> dict[str, Any]:
    machine: dict[str, Any] = {
        "processor": _processor(),
        "cores": os.cpu_count(),
        "cores_used": len(os.sched_getaffinity(0)),
        "system": platform.platform(),
    }
    if torch.cuda.is_available():
        machine["gpu"] = _said("nvidia-smi", "--query-gpu=name", "--format=csv,noheader").splitlines()
        machine["cuda"] = torch.version.cuda
    return machine


def _processor() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())


def _git(*arguments: str) -> str:
    return _said("git", *arguments)


def _said(*command: str) -> str:
    try:
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True, timeout=10)
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.strip()
