"""What was measured, where and when: results.json, each table with the machine, versions and commit it came from."""

import datetime
import json
import os
import platform
import subprocess
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

PACKAGES = ("mbtrain", "torch", "pytorch-lightning", "numpy")
ROOT = Path(__file__).parents[2]


def circumstances(command: str) -> dict[str, Any]:
    """Machine, versions, commit and command: what a figure means nothing without."""
    return {
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="minutes"),
        "command": command,
        "commit": _git("rev-parse", "--short=12", "HEAD"),
        "is_changed": bool(_git("status", "--porcelain", "--", "mbtrain", "conf", "scripts")),
        "machine": _machine(),
        "versions": {"python": platform.python_version()} | {name: version(name) for name in PACKAGES},
    }


def kept(results: dict[str, Any], path: Path) -> dict[str, Any]:
    """Write `results` into the file, in place of what it held of the same tables and cases; all that it holds then."""
    everything: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    for table, content in results.items():
        # The cases of the loops are measured one by one; any other table at once.
        everything[table] = everything.get(table, {}) | content if table == "loops" else content
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(everything, indent=2) + "\n")
    return everything


def _machine() -> dict[str, Any]:
    machine: dict[str, Any] = {
        "processor": _processor(),
        "cores": os.cpu_count(),
        "cores_used": len(os.sched_getaffinity(0)),
        "system": platform.platform(),
    }
    if torch.cuda.is_available():
        machine["gpu"] = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
        machine["cuda"] = torch.version.cuda
    return machine


def _processor() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())


def _git(*arguments: str) -> str:
    try:
        done = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=True, timeout=10)
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.strip()
