"""By which code something came about: the commit of the working folder, the versions of packages."""

import subprocess
from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, version
from typing import Any


def git_state() -> dict[str, Any] | None:
    """Commit of the working folder, and whether files differ from it; None outside a repository."""

    def git(*arguments: str) -> str:
        return subprocess.run(["git", *arguments], capture_output=True, text=True, check=True, timeout=10).stdout

    try:
        return {"commit": git("rev-parse", "HEAD").strip(), "is_changed": bool(git("status", "--porcelain").strip())}
    except (OSError, subprocess.SubprocessError):
        return None


def versions(packages: Iterable[str]) -> dict[str, str]:
    """Of each package; what runs from a checkout without being installed has none.

    >>> versions(["nothing-of-this-name"])
    {'nothing-of-this-name': 'not installed'}
    """
    return {name: _version(name) for name in packages}


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"
