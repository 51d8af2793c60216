"""Readers of the run's log that send it somewhere, one file each."""

from importlib.util import find_spec

# The trackers that need a package, with the command that brings it.
PACKAGES = {
    "wandb": "pip install wandb",
    "tensorboard": "pip install 'mbtrain[tensorboard]'",
    "trackio": "pip install 'mbtrain[trackio]'",
}


def missing(name: str) -> str | None:
    """One line with the install command where a tracker's package is absent; nothing is imported.

    >>> missing("csv") is None
    True
    """
    if name not in PACKAGES:
        return None
    spec = find_spec(name)
    # A folder ./wandb, as wandb itself leaves it, passes for a package: such a one has no file of its own.
    if spec is not None and spec.origin is not None:
        return None
    return f"tracker={name}: its package is not installed: {PACKAGES[name]}"
