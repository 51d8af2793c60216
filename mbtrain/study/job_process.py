"""One job in a process of its own: what it says goes to its folder, how it ends to its status."""

import gc
import os
import signal
import sys
import traceback
from typing import TYPE_CHECKING

from rich.console import Console

from mbtrain.log.status import FINAL, first_line, read_status, write_status
from mbtrain.study.jobs import Job

if TYPE_CHECKING:
    from mbtrain.data.prepare import Data

OUTPUT = "output.txt"


def run_job(job: Job, cores: int, data: "Data | None") -> None:
    """Train; the process ends with 0, with 1 after any failure, or with 128 + signal."""
    from mbtrain.training.signals import Interrupted

    redirect(job)
    gc.enable()
    try:
        sys.exit(trained(job, cores, data))
    except Interrupted as error:
        sys.exit(error.exit_code)


def settle(job: Job, pid: int, exit_code: int, *, was_stopped: bool) -> None:
    """See to it that a process that has ended has its end in the job's status, whatever took it."""
    if _has_said_its_end(job, pid):
        return
    if was_stopped:
        write_status(job.folder, "interrupted", pid=pid)
    elif exit_code < 0:
        write_status(job.folder, "killed", f"killed by {signal.Signals(-exit_code).name}", pid=pid)
    else:
        write_status(job.folder, "failed", f"its process ended with exit code {exit_code}", pid=pid)


def trained(job: Job, cores: int, data: "Data | None") -> int:
    """Train, with the end in the job's status; 0, 1 after a failure, or Interrupted by a signal."""
    from mbtrain.one_run import train
    from mbtrain.training.signals import Interrupted

    try:
        train(job.config, Console(stderr=True), cores=cores, data=data)
    except Interrupted:
        raise
    except KeyboardInterrupt as error:
        write_status(job.folder, "interrupted", first_line(error))
        return 128 + signal.SIGINT
    except BaseException as error:
        traceback.print_exc()
        # Before it began, nothing else has said so.
        if not _has_said_its_end(job, os.getpid()):
            write_status(job.folder, "failed", first_line(error))
        return 1
    return 0


def _has_said_its_end(job: Job, pid: int) -> bool:
    status = read_status(job.folder)
    return status is not None and status["pid"] == pid and status["status"] in FINAL


def redirect(job: Job) -> None:
    """What this process says goes to the job's folder from here on."""
    sys.stdout.flush()
    sys.stderr.flush()
    file = os.open(job.folder / OUTPUT, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    for stream in (1, 2):
        os.dup2(file, stream)
    os.close(file)
