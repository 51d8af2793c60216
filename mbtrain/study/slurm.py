"""A sweep's arrays in SLURM's queue, by SLURM's own commands: submit, look, ask how a task ended."""

import hashlib
import re
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
import yaml

from mbtrain.log.files import replace
from mbtrain.plan.refused import Refused
from mbtrain.study.jobs import Job

LAUNCHER = "submitit_slurm"
FOLDER = "slurm"
# What Lightning's SLURM plug-in takes for the announcement of the end; submitit's own would be USR2.
ANNOUNCED_BY = signal.SIGUSR1
# SLURM's own limit on the numbers of an array, unless a cluster says otherwise, is 1001.
MOST_TASKS = 1000
FLAGS = {
    "partition": "--partition={}",
    "account": "--account={}",
    "qos": "--qos={}",
    "constraint": "--constraint={}",
    "timeout_min": "--time={}",
    "cpus_per_task": "--cpus-per-task={}",
    "gpus_per_node": "--gpus-per-node={}",
    "mem_gb": "--mem={}G",
    "signal_delay_s": f"--signal=B:{ANNOUNCED_BY.name.removeprefix('SIG')}@{{}}",
}


@dataclass(frozen=True)
class Task:
    """A job in the queue: SLURM's number of it, and its state there."""

    number: str
    state: str


class Queue:
    """The arrays of one sweep; SWEEP/slurm/NUMBER/ holds what the tasks of an array read, and what SLURM says of them.

    An array is known by its name, which its folder gives: it is found again whatever became of who submitted it.
    """

    def __init__(self, sweep_dir: Path, options: Mapping[str, Any]) -> None:
        self._path, self._options = sweep_dir / FOLDER, options

    def refuse_unfit(self) -> None:
        """Refuse, before anything is written, what SLURM would not take."""
        if shutil.which("sbatch") is None:
            raise Refused(
                f"hydra/launcher={LAUNCHER}: there is no sbatch here: go to a node of the cluster that has it, "
                "or leave it out for a sweep in this machine's processes"
            )
        _submit(["--test-only", *_resources(self._options)], script(Path(), []))

    def submit(self, jobs: Sequence[Job]) -> dict[str, Task]:
        """Put the jobs in the queue, in arrays; their tasks, by their names."""
        tasks: dict[str, Task] = {}
        for first in range(0, len(jobs), MOST_TASKS):
            part = jobs[first : first + MOST_TASKS]
            array = self._submit(part)
            tasks |= {job.name: Task(f"{array}_{index}", "PENDING") for index, job in enumerate(part)}
        return tasks

    def look(self) -> dict[str, Task] | None:
        """What of this sweep is in the queue, by the names of its jobs; None where SLURM does not answer."""
        done = subprocess.run(
            ["squeue", "--me", "--array", "--noheader", "--format=%j|%K|%F|%T"], capture_output=True, text=True
        )
        if done.returncode:
            return None
        names = {self._name(path): orjson.loads((path / "jobs.json").read_bytes()) for path in self._arrays()}
        found: dict[str, Task] = {}
        for line in done.stdout.splitlines():
            name, index, array, state = line.rsplit("|", 3)
            if name in names and index.isdecimal():
                found[names[name][int(index)]] = Task(f"{array}_{index}", state)
        return found

    def _arrays(self) -> Iterator[Path]:
        return (file.parent for file in self._path.glob("*/jobs.json"))

    def _name(self, path: Path) -> str:
        whole = str(path.resolve())
        return f"mbtrain-{path.name}-{hashlib.sha256(whole.encode()).hexdigest()[:12]}"

    def _submit(self, jobs: Sequence[Job]) -> str:
        path = self._path / str(1 + max((int(one.name) for one in self._arrays()), default=0))
        path.mkdir(parents=True, exist_ok=True)
        for index, job in enumerate(jobs):
            write_task(path, index, job)
        # Before it is submitted: whatever of it is in the queue later is known.
        replace(path / "jobs.json", orjson.dumps([job.name for job in jobs]))
        arguments = [
            f"--array=0-{len(jobs) - 1}%{self._options['array_parallelism']}",
            f"--job-name={self._name(path)}",
            f"--output={path}/%a.txt",
            *_resources(self._options),
        ]
        return _submit(["--parsable", *arguments], script(path, self._options["setup"]))


def script(path: Path, setup: Sequence[str]) -> str:
    """The batch script of an array whose tasks are in `path`.

    The task takes the shell's place, and so is who SLURM's signal reaches.
    """
    command = [sys.executable, "-m", "mbtrain.study.slurm_task", str(path)]
    return "\n".join(["#!/bin/bash", *setup, f"exec {shlex.join(command)}", ""])


def write_task(path: Path, index: int, job: Job) -> None:
    """Write what a task needs to run its job: a change of the user's yaml while it waits in the queue is not seen."""
    content = {"folder": str(job.folder), "overrides": list(job.overrides), "config": job.config}
    replace(path / f"{index}.yaml", yaml.safe_dump(content, sort_keys=False, allow_unicode=True).encode())


def read_task(path: Path, index: int) -> Job:
    """The job that `write_task` wrote."""
    content = yaml.safe_load((path / f"{index}.yaml").read_text())
    return Job(Path(content["folder"]), tuple(content["overrides"]), content["config"])


def end_of(task: Task) -> str:
    """How SLURM says that a task ended, as far as it still knows."""
    done = subprocess.run(["scontrol", "--oneliner", "show", "job", task.number], capture_output=True, text=True)
    state = re.search(r"\bJobState=(\w+)", done.stdout)
    code = re.search(r"\bExitCode=(\d+):(\d+)", done.stdout)
    if state is None or code is None:
        return f"SLURM task {task.number} is gone from the queue"
    by_signal = f", signal {code[2]}" if code[2] != "0" else ""
    return f"SLURM task {task.number}: {state[1]}, exit code {code[1]}{by_signal}"


def _resources(options: Mapping[str, Any]) -> list[str]:
    """sbatch's arguments for what a task gets; one task a job, put back in the queue where its node fails."""
    given = [text.format(options[key]) for key, text in FLAGS.items() if options[key] is not None]
    others = [
        f"--{key.replace('_', '-')}" + ("" if value is True else f"={value}")
        for key, value in options["additional_parameters"].items()
    ]
    # With the number of tasks SLURM tells Lightning that it is no shell in which somebody types.
    return ["--ntasks=1", "--nodes=1", "--requeue", "--open-mode=append", *given, *others]


def _submit(arguments: Sequence[str], text: str) -> str:
    done = subprocess.run(["sbatch", *arguments], input=text, capture_output=True, text=True)
    if done.returncode:
        said = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
        raise Refused(f"hydra/launcher={LAUNCHER}: {said[-1]}")
    return done.stdout.strip().partition(";")[0]
