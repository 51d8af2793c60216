"""Weights & Biases: the run on its server or, without a key, in `RUN/wandb`; the one file that knows wandb."""

import errno
import fnmatch
import netrc
import os
import shlex
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import wandb

from mbtrain.log.status import is_over, read_status
from mbtrain.trackers.identity import run_identity
from mbtrain.trackers.values import AXES, epoch_values, values

# Without it what wandb holds back (15 s or 32 KiB) is lost at a kill. A private setting: it may go, a test tells.
FLUSH = "x_transaction_log_flush_interval"
# On a full disk wandb drops rows without a word: so the room is looked at, every so many rows.
LEAST_FREE_BYTES, LOOKED_EVERY = 1 << 20, 256


class Wandb:
    """One wandb run for one run folder, whatever dies in between: each iteration is one step, logged once.

    Offline the whole log is written anew into one folder (wandb cannot resume there); online the run with the same id
    goes on after the last step that its server has.
    """

    def __init__(
        self,
        *,
        run_dir: str,
        name: str,
        config: dict[str, Any],
        project: str,
        entity: str | None,
        group: str | None,
        job_type: str | None,
        tags: list[str],
        notes: str | None,
        mode: str | None,
    ) -> None:
        self._run_dir = Path(run_dir)
        _prepare_environment(self._run_dir)
        identity = run_identity(run_dir)
        for earlier in (self._run_dir / "wandb").glob(f"offline-run-*-{identity}"):
            shutil.rmtree(earlier)
        mode = mode or os.environ.get("WANDB_MODE") or ("online" if _has_key() else "offline")
        self._run = wandb.init(
            dir=str(self._run_dir.resolve()),
            id=identity,
            name=name,
            project=project,
            entity=entity,
            group=group,
            job_type=job_type,
            tags=tags,
            notes=notes,
            # Trackers' options are no part of the experiment, and may hold what should not leave this machine.
            config={key: value for key, value in config.items() if key != "tracker"},
            mode=mode,  # pyright: ignore[reportArgumentType] (wandb itself refuses what is none of its words)
            resume="allow" if mode == "online" else None,
            allow_val_change=True,
            settings=_settings(self._run_dir),
        )
        self._is_offline = mode == "offline"
        self._first_step = self._run.step
        self._pending: dict[str, Any] = {}
        self._num_sent = 0
        self._epoch_names: set[str] = set()
        for axis in AXES:
            self._run.define_metric(axis, hidden=True)
        self._run.define_metric("*", step_metric="iteration")

    def __call__(self, kind: str, row: dict[str, Any]) -> None:
        """Take a row; an iteration's row and the epochs row behind it become one step."""
        if row["iteration"] < self._first_step:
            return
        if kind == "iteration":
            self._send()
            self._pending = values(row)
        else:
            self._define(epoch_values(row))
            self._pending |= epoch_values(row)

    def close(self, status: str, result: dict[str, Any] | None) -> None:
        """Send what is left and the result as the run's summary; only a run that is done ends as a success."""
        self._send()
        plain = {key: value for key, value in values(result or {}).items() if isinstance(value, str | int | float)}
        self._run.summary.update({**plain, "status": status})
        self._refuse_full_disk()
        self._run.finish(exit_code=0 if status == "done" else 1)

    @property
    def address(self) -> str | None:
        """The run's page, or the command that shows its folder here, and what to say to upload it."""
        if not self._is_offline:
            return self._run.url
        shown = shlex.quote(str(self._run_dir / "wandb" / Path(self._run.settings.sync_dir).name))
        return f"wandb leet {shown} (in place of leet, sync uploads it)"

    def _send(self) -> None:
        if self._pending:
            self._run.log(self._pending, step=self._pending["iteration"], commit=True)
            self._pending = {}
            self._num_sent += 1
            if self._num_sent % LOOKED_EVERY == 1:
                self._refuse_full_disk()

    def _refuse_full_disk(self) -> None:
        folder = self._run_dir / "wandb"
        folder = folder if folder.is_dir() else self._run_dir
        if shutil.disk_usage(folder).free < LEAST_FREE_BYTES:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(folder))

    def _define(self, row: dict[str, Any]) -> None:
        """Give the means of an epoch their own axis, before the first of them is logged."""
        for name in fnmatch.filter(row.keys() - self._epoch_names, "*_epoch"):
            self._epoch_names.add(name)
            self._run.define_metric(name, step_metric="epoch")


def key_is_configured(address: str, environ: Mapping[str, str]) -> bool:
    """A key for the server at `address` is in the environment or in the netrc file, where `wandb login` puts it."""
    if environ.get("WANDB_API_KEY"):
        return True
    try:
        known = netrc.netrc(os.path.expanduser(environ.get("NETRC", "~/.netrc")))
    except (OSError, netrc.NetrcParseError):
        return False
    hosts = [urlsplit(address).netloc]
    # The public server has had two names; wandb looks for a key under both.
    if address == wandb.Settings.model_fields["base_url"].default:
        hosts.append("api.wandb.ai")
    return any(known.authenticators(host) for host in hosts)


def _has_key() -> bool:
    """wandb's own settings say which server is meant: WANDB_BASE_URL, or the files that `wandb login --host` wrote."""
    settings = wandb.setup(settings=wandb.Settings(silent=True)).settings
    return bool(settings.api_key) or key_is_configured(settings.base_url, os.environ)


def _settings(run_dir: Path) -> wandb.Settings:
    status = read_status(run_dir)
    wanted: dict[str, Any] = {"console": "off", "silent": True, "x_disable_stats": is_over(run_dir), FLUSH: 0.5}
    if status is not None:
        # The machine's gauges: of the process that trains, not of this one.
        wanted["x_stats_pid"] = status["pid"]
    return wandb.Settings(**{key: value for key, value in wanted.items() if key in wandb.Settings.model_fields})


def _prepare_environment(run_dir: Path) -> None:
    """What wandb's service reads when it starts; what the user has set stays."""
    # A service that the trainer's own code started dies with the trainer, before the log has been read to its end.
    os.environ.pop("WANDB_SERVICE", None)
    for variable in ("WANDB_CACHE_DIR", "WANDB_DATA_DIR", "WANDB_ARTIFACT_DIR"):
        os.environ.setdefault(variable, str((run_dir / "wandb" / "cache").resolve()))
    # wandb's reports about itself, over the network and also from an offline run.
    os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
