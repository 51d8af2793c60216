"""trackio: a local web page that compares runs, kept in an SQLite file, without an account."""

import contextlib
import importlib
import os
import shlex
from typing import Any

from mbtrain.trackers.identity import run_identity
from mbtrain.trackers.values import epoch_values, values


class Trackio:
    """Sends each row to the project's local database; what an earlier reading of this run left there is replaced."""

    def __init__(
        self, *, run_dir: str, config: dict[str, Any], project: str, group: str | None, folder: str | None
    ) -> None:
        # Read when it is imported. Everything stays on this machine, so the hub is not asked who the user is either.
        os.environ["HF_HUB_OFFLINE"] = "1"
        if folder is not None:
            os.environ["TRACKIO_DIR"] = os.path.abspath(folder)
        trackio: Any = importlib.import_module("trackio")

        self._project = project
        self._folder = folder
        identity = run_identity(run_dir)
        settings = {key: value for key, value in config.items() if key != "tracker"}
        # It reports its steps on stdout, in the middle of the trainer's progress bar.
        with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere):
            # It refuses to list a project that does not exist: the first run makes it.
            with contextlib.suppress(ValueError):
                for earlier in trackio.Api().runs(project):
                    if earlier.name == identity:
                        earlier.delete()
            # The module's own finish: after the run's, the module would finish it once more at exit, and say so.
            self._finish = trackio.finish
            self._run = trackio.init(
                project, name=identity, group=group, config=settings, auto_log_gpu=False, auto_log_cpu=False
            )

    def __call__(self, kind: str, row: dict[str, Any]) -> None:
        """Log the row at the step of its iteration."""
        self._run.log(values(row) if kind == "iteration" else epoch_values(row), step=row["iteration"])

    def close(self, status: str, result: dict[str, Any] | None) -> None:
        """Wait until all is in the database."""
        with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere):
            self._finish()

    @property
    def address(self) -> str:
        """The command that opens the page."""
        place = "" if self._folder is None else f"TRACKIO_DIR={shlex.quote(os.path.abspath(self._folder))} "
        return f"run {self._run.name}: {place}trackio show --project {shlex.quote(self._project)}"
