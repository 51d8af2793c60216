"""SLURM: when the scheduler announces the end of a job, the job that has saved its state is put back in the queue."""

import os
import re
import shutil
import subprocess

import pytorch_lightning as pl
from lightning_fabric.plugins.environments.slurm import SLURMEnvironment

# A default run_dir bears the time of the start: a job started again would begin another run.
TIMED = re.compile(r"\d{4}-\d\d-\d\d_\d\d-\d\d-\d\d_")


def asks_for_requeue(trainer: pl.Trainer, number: int) -> bool:
    """Whether signal `number` is what Lightning's SLURM plug-in requeues at (USR1 unless it says otherwise)."""
    environment = trainer._accelerator_connector.cluster_environment
    return (
        isinstance(environment, SLURMEnvironment) and environment.auto_requeue and number == environment.requeue_signal
    )


def requeue(run_dir: str, *, is_resumed_by_name: bool) -> str:
    """Put this job back in the queue; the line that says what came of it."""
    if TIMED.search(run_dir) and not is_resumed_by_name:
        return "not requeued: run_dir bears the time of this start, give run_dir=PATH (or sweep_dir=PATH) in the job"
    array, job = os.environ.get("SLURM_ARRAY_JOB_ID"), os.environ.get("SLURM_JOB_ID", "")
    name = f"{array}_{os.environ.get('SLURM_ARRAY_TASK_ID', '')}" if array else job
    if not re.fullmatch(r"\d+(_\d+)?", name) or shutil.which("scontrol") is None:
        return f"not requeued: no scontrol, or SLURM_JOB_ID={name!r} is no job"
    done = subprocess.run(["scontrol", "requeue", name], capture_output=True, text=True)
    return f"SLURM job {name} is requeued" if done.returncode == 0 else f"not requeued: {done.stderr.strip()}"
