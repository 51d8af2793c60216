"""One task of an array in SLURM's queue: a job of a sweep, at its first start and after each requeue."""

import os
import sys
from pathlib import Path

from mbtrain.side_process import SideProcess
from mbtrain.study.job_process import redirect, trained
from mbtrain.study.jobs import Job
from mbtrain.study.slurm import ANNOUNCED_BY, read_task
from mbtrain.trackers.states import keep_in_result


def main() -> None:
    """Run the task of this process's number; exit with 0, with 1 after any failure, or with 128 + signal."""
    sys.exit(run_task(read_task(Path(sys.argv[1]), int(os.environ["SLURM_ARRAY_TASK_ID"]))))


def run_task(job: Job) -> int:
    """Train a job on the cores that SLURM gives, with the trackers beside it; the exit code."""
    redirect(job)
    side = SideProcess(job.folder, job.config["tracker"], trust=job.config["trust"])
    side.start()
    from mbtrain.training.place import num_cores
    from mbtrain.training.requeue import requeue
    from mbtrain.training.signals import Interrupted

    cores = int(os.environ.get("SLURM_CPUS_PER_TASK", num_cores()))
    try:
        code = trained(job, cores, None)
    except Interrupted as error:
        _finish(side)
        print(error, file=sys.stderr)
        if error.exit_code == 128 + ANNOUNCED_BY:
            # SLURM ends this process then: nothing comes after it.
            print(requeue(str(job.folder), is_resumed_by_name=True), file=sys.stderr, flush=True)
        return error.exit_code
    _finish(side)
    keep_in_result(job.folder)
    return code


def _finish(side: SideProcess) -> None:
    for report in side.finish():
        print(f"{report.name}: {report.text}", file=sys.stderr)


if __name__ == "__main__":
    main()
