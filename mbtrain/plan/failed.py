"""The error of a run that cannot go on: told in one line, exit code 1."""


class Failed(RuntimeError):
    """Training stopped for a reason that one line can tell; nothing that was saved is lost."""
