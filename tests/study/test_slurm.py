"""A sweep in SLURM's queue: what sbatch is asked, what the queue's answers mean, and whole sweeps on a real SLURM."""

import os
import runpy
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import orjson
import pytest
import yaml
from lightning_fabric.plugins.environments.slurm import SLURMEnvironment

from mbtrain.config.driver import conf_dir
from mbtrain.log.status import write_status
from mbtrain.study import slurm_sweep
from mbtrain.study.jobs import Job
from mbtrain.study.pool import Stop
from mbtrain.study.slurm import Queue, Task, read_task, write_task
from mbtrain.study.slurm_sweep import Waiting
from tests.composing import composed
from tests.conftest import rows, without_times
from tests.forked import Forked
from tests.study.conftest import QUIET, at, status

ON_SLURM = "hydra/launcher=submitit_slurm"
DEFAULTS = yaml.safe_load((conf_dir() / "hydra" / "launcher" / "submitit_slurm.yaml").read_text())
Commands = Callable[[str, str], None]


@pytest.fixture
def commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Commands:
    """Put a command into a PATH without SLURM: it notes its arguments in `asked` and does a line of shell."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name in ("cat", "sh"):
        (folder / name).symlink_to(str(shutil.which(name)))
    monkeypatch.setenv("PATH", str(folder))

    def made(name: str, act: str) -> None:
        (folder / name).write_text(f'#!/bin/sh\nfor one in "$@"; do echo "$one" >> {tmp_path}/asked; done\n{act}\n')
        (folder / name).chmod(0o755)

    return made


def jobs(*names: str) -> list[Job]:
    made = [Job(Path("s", name), (name,), {"seed": 0, "sweep": {"retry": None}}) for name in names]
    for job in made:
        job.folder.mkdir(parents=True, exist_ok=True)
        write_status(job.folder, "waiting")
    return made


def submitted(commands: Commands, *names: str, **options: Any) -> tuple[Queue, dict[str, Task]]:
    """A queue with an array of jobs that a false sbatch has taken as number 7; its script is in `script`."""
    commands("sbatch", f"cat > {Path('script').resolve()}; echo 7")
    queue = Queue(Path("s"), DEFAULTS | options)
    return queue, queue.submit(jobs(*names))


def asked() -> list[str]:
    return Path("asked").read_text().splitlines()


def test_without_sbatch_the_launcher_is_refused_and_leaves_no_folder(
    commands: Commands, sweep: Callable[..., tuple[int, str]]
) -> None:
    code, said = sweep(ON_SLURM, "loss=good", "seed=0,1")
    assert code == 2 and said.startswith(f"mbtrain: {ON_SLURM}: there is no sbatch here") and not Path("s").exists()


def test_what_sbatch_does_not_take_is_refused_and_leaves_no_folder(
    commands: Commands, sweep: Callable[..., tuple[int, str]]
) -> None:
    commands("sbatch", "echo 'sbatch: error: invalid partition specified: gpu' >&2; exit 1")
    code, said = sweep(ON_SLURM, "hydra.launcher.partition=gpu", "loss=good", "seed=0,1")
    assert (code, said) == (2, f"mbtrain: {ON_SLURM}: sbatch: error: invalid partition specified: gpu\n")
    assert not Path("s").exists() and {"--test-only", "--partition=gpu"} <= set(asked())


def test_an_option_that_the_launcher_has_not_is_refused(sweep: Callable[..., tuple[int, str]]) -> None:
    code, said = sweep(ON_SLURM, "hydra.launcher.partitoin=gpu", "loss=good", "seed=0,1")
    assert code == 2 and "hydra.launcher.partitoin" in said and len(said.splitlines()) == 1


def test_options_reach_sbatch(commands: Commands) -> None:
    options = {"mem_gb": 4, "array_parallelism": 2, "additional_parameters": {"exclusive": True, "mail_type": "END"}}
    submitted(commands, "seed=0", "seed=1", "seed=2", **options)
    expected = {"--array=0-2%2", "--mem=4G", "--exclusive", "--mail-type=END", "--time=60", "--cpus-per-task=1"}
    assert expected <= set(asked()) and not any("null" in one or "None" in one for one in asked())


def test_slurm_announces_the_end_by_the_signal_that_lightning_listens_for(
    commands: Commands, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLURM_NTASKS", "1")
    submitted(commands, "seed=0")
    (option,) = [one for one in asked() if one.startswith("--signal=")]
    listened_for = SLURMEnvironment().requeue_signal
    assert option == f"--signal=B:{signal.Signals(listened_for or 0).name.removeprefix('SIG')}@120"


def test_setup_comes_before_the_task_which_takes_the_shells_place(commands: Commands) -> None:
    submitted(commands, "seed=0", setup=["module load cuda"])
    lines = Path("script").read_text().splitlines()
    assert lines[0] == "#!/bin/bash" and lines[1] == "module load cuda"
    assert lines[2].startswith("exec ") and lines[2].endswith("-m mbtrain.study.slurm_task s/slurm/1")


def test_a_task_reads_the_job_that_was_submitted(tmp_path: Path) -> None:
    job = Job(Path("s", "a"), ("seed=0",), {"x": {1: float("inf"), "lr": 1e-5, "all": None}, "trust": ["ü"]})
    write_task(tmp_path, 3, job)
    assert read_task(tmp_path, 3) == job


def test_more_jobs_than_an_array_holds_are_several_arrays(commands: Commands, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mbtrain.study.slurm.MOST_TASKS", 2)
    submitted(commands, "a", "b", "c")
    assert [one for one in asked() if "array" in one] == ["--array=0-1%256", "--array=0-0%256"]


def name_of(asked_for: list[str]) -> str:
    return asked_for[-1 - [one.startswith("--job-name=") for one in asked_for[::-1]].index(True)].partition("=")[2]


def test_jobs_are_found_in_the_queue_by_the_name_of_their_array(commands: Commands) -> None:
    queue, _ = submitted(commands, "seed=0", "seed=1")
    name = name_of(asked())
    commands("squeue", f"echo '{name}|1|7|RUNNING'; echo 'another|0|8|PENDING'; echo '{name}x|0|9|PENDING'")
    assert queue.look() == {"seed=1": Task("7_1", "RUNNING")}
    # Whoever comes later, with nothing but the folder, finds the same.
    assert Queue(Path("s"), DEFAULTS).look() == {"seed=1": Task("7_1", "RUNNING")}


def test_a_queue_that_does_not_answer_is_not_an_empty_one(commands: Commands) -> None:
    queue, _ = submitted(commands, "seed=0")
    commands("squeue", "exit 1")
    assert queue.look() is None


class Scripted:
    """A queue that says one thing after the other, the last for ever; watches who is told what."""

    def __init__(
        self, *looks: Mapping[str, Task] | None, acts: Mapping[int, Callable[[], object]] | None = None
    ) -> None:
        self._looks, self._acts = list(looks), acts or {}
        self.count, self.said = 0, list[str]()

    def look(self) -> Mapping[str, Task] | None:
        self._acts.get(self.count, lambda: None)()
        self.count += 1
        return self._looks.pop(0) if len(self._looks) > 1 else self._looks[0]

    def begun(self, job: Job, pid: int) -> None:
        self.said.append(f"{job.name} begun")

    def ended(self, job: Job) -> None:
        self.said.append(f"{job.name} ended")

    def tick(self) -> None:
        pass


def wait(queue: Scripted, monkeypatch: pytest.MonkeyPatch, *names: str, stop: Stop | None = None) -> Mapping[str, Task]:
    monkeypatch.setattr(slurm_sweep, "TICK_SECONDS", 0)
    monkeypatch.setattr(slurm_sweep, "LOOK_SECONDS", 0)
    tasks = {name: Task(f"7_{index}", "PENDING") for index, name in enumerate(names)}
    made: Any = queue
    return Waiting(jobs(*names), tasks, made, made, stop or Stop()).wait()


IN_QUEUE = {"a": Task("7_0", "RUNNING")}


def test_a_job_that_says_its_end_is_waited_for_no_longer(monkeypatch: pytest.MonkeyPatch) -> None:
    queue = Scripted(IN_QUEUE, acts={2: lambda: write_status("s/a", "running"), 4: lambda: write_status("s/a", "done")})
    assert wait(queue, monkeypatch, "a") == {} and queue.count == 5 and queue.said == ["a begun", "a ended"]


def test_a_job_that_was_cut_is_waited_for_while_it_is_in_the_queue(monkeypatch: pytest.MonkeyPatch) -> None:
    acts = {1: lambda: write_status("s/a", "interrupted"), 5: lambda: write_status("s/a", "done")}
    queue = Scripted(IN_QUEUE, acts=acts)
    wait(queue, monkeypatch, "a")
    assert queue.count == 6 and queue.said == ["a begun", "a ended"]


def test_a_job_that_slurm_ended_is_killed_with_slurms_words(
    commands: Commands, monkeypatch: pytest.MonkeyPatch
) -> None:
    commands("scontrol", "echo 'JobId=8 ArrayJobId=7 JobState=OUT_OF_MEMORY Reason=None ExitCode=0:125 x=y'")
    queue = Scripted(IN_QUEUE, {}, {}, acts={0: lambda: write_status("s/a", "running", pid=77)})
    wait(queue, monkeypatch, "a")
    message = "SLURM task 7_0: OUT_OF_MEMORY, exit code 0, signal 125"
    assert status("a") == {"status": "killed", "pid": 77, "message": message} and queue.count == 3


def test_a_job_that_the_queue_lacks_once_is_not_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    queue = Scripted({}, IN_QUEUE, None, {}, acts={4: lambda: write_status("s/a", "done")})
    wait(queue, monkeypatch, "a")
    assert status("a")["status"] == "done" and queue.said == ["a begun", "a ended"]


def test_who_leaves_is_told_what_stays_in_the_queue(monkeypatch: pytest.MonkeyPatch) -> None:
    stop = Stop()
    queue = Scripted(IN_QUEUE, acts={3: lambda: stop._note(signal.SIGHUP, None)})
    assert wait(queue, monkeypatch, "a", stop=stop) == IN_QUEUE and status("a")["status"] == "waiting"


SLURM = {"SLURM_ARRAY_JOB_ID": "7", "SLURM_ARRAY_TASK_ID": "0", "SLURM_JOB_ID": "8", "SLURM_CPUS_PER_TASK": "1"}
SLURM |= {"SLURM_NTASKS": "1", "SLURM_JOB_NAME": "mbtrain", "SLURM_PROCID": "0", "SLURM_LOCALID": "0"}


def test_a_task_that_is_told_of_its_end_saves_is_requeued_and_goes_on(
    commands: Commands, forked: Callable[..., Forked], tmp_path: Path
) -> None:
    commands("scontrol", "")
    folder = Path("s", "0")
    own = [*QUIET, "loss=slow", "trust=my_losses", "duration=12ep", "checkpoint.every=null", "run_dir=s/0"]
    folder.mkdir(parents=True)
    write_status(folder, "waiting")
    write_task(tmp_path, 0, Job(folder, (), composed(own, config_dir="conf")))

    def task() -> int:
        sys.argv = ["", str(tmp_path)]
        runpy.run_module("mbtrain.study.slurm_task", run_name="__main__")
        return 0

    first = forked(task, **SLURM)
    first.wait_for(folder / "iterations.jsonl")
    first.signal(signal.SIGUSR1)
    assert first.exit_code() == 128 + signal.SIGUSR1 and asked() == ["requeue", "7_0"]
    assert status("0")["status"] == "interrupted" and forked(task, **SLURM).exit_code() == 0
    assert "going on after iteration" in (folder / "output.txt").read_text() and asked() == ["requeue", "7_0"]
    assert orjson.loads((folder / "chosen.json").read_bytes())["threads"] == 1 and status("0")["status"] == "done"


# What follows runs on a real SLURM of this machine: scripts/slurm_here.sh starts one.
COMMAND = ["loss=slow", "seed=0,1,2,3", "duration=8ep", "checkpoint.every=13it"]


def slurm(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def task_of(job: str) -> str:
    """SLURM's number of the only array's task that runs the job in s/ with `job` in its name."""
    names = orjson.loads(Path("s/slurm/1/jobs.json").read_bytes())
    (index,) = [number for number, name in enumerate(names) if job in name]
    array = Path("said-0.txt").read_text().partition("array ")[2].split()[0]
    return f"{array}_{index}"


def folder_of(seed: int, *, duration: str = "8ep") -> Path:
    return at(f"duration={duration},loss=slow,seed={seed}")


@pytest.fixture
def emptied() -> Iterator[None]:
    """What a test leaves in the queue is taken out."""
    yield
    for task in (Queue(Path("s"), DEFAULTS).look() or {}).values():
        slurm("scancel", task.number)


def announce() -> None:
    """What SLURM does before the time limit; scancel would go on and signal the requeued task again."""
    os.kill(status("seed=1")["pid"], signal.SIGUSR1)


def requeue() -> None:
    """What SLURM does to a job that it preempts."""
    slurm("scontrol", "requeue", task_of("seed=1"))


def begin_now() -> None:
    """A requeued task would wait for two minutes."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        if "PENDING" in slurm("squeue", "--noheader", "--array", "--format=%T", f"--jobs={task_of('seed=1')}"):
            slurm("scontrol", "update", f"JobId={task_of('seed=1')}", "StartTime=now")
            return
        time.sleep(0.1)
    raise AssertionError("not requeued")


@pytest.mark.slurm
@pytest.mark.slow
@pytest.mark.usefixtures("emptied")
@pytest.mark.parametrize(("act", "line"), [(announce, "is requeued"), (requeue, "interrupted by SIGTERM")])
def test_four_jobs_of_which_one_is_requeued_end_as_on_this_machine(
    start: Callable[..., Forked], sweep: Callable[..., tuple[int, str]], act: Callable[[], None], line: str
) -> None:
    process = start(ON_SLURM, *COMMAND)
    process.wait_for(folder_of(1) / "iterations.jsonl")
    act()
    begin_now()
    assert process.exit_code() == 0, process.said
    output = (folder_of(1) / "output.txt").read_text()
    assert line in output and "going on after iteration" in output
    assert sweep(*COMMAND, "sweep_dir=here", "sweep.jobs=2")[0] == 0
    for seed in range(4):
        there, here = folder_of(seed), Path("here", folder_of(seed).name)
        results = [orjson.loads((one / "result.json").read_bytes()) for one in (there, here)]
        assert results[0]["weights_sha256"] == results[1]["weights_sha256"]
        for log in ("iterations", "epochs"):
            assert without_times(rows(there, log)) == without_times(rows(here, log))


@pytest.mark.slurm
@pytest.mark.slow
@pytest.mark.usefixtures("emptied")
def test_who_waits_may_leave_and_come_back_and_what_was_killed_goes_on(
    start: Callable[..., Forked], sweep: Callable[..., tuple[int, str]]
) -> None:
    command = [ON_SLURM, "loss=slow", "seed=0,1", "duration=100ep", "checkpoint.every=13it"]
    folders = [folder_of(seed, duration="100ep") for seed in (0, 1)]
    process = start(*command)
    process.wait_for(*(one / "iterations.jsonl" for one in folders))
    os.kill(process.pid, signal.SIGINT)
    assert process.exit_code() == 128 + signal.SIGINT and "2 jobs stay in SLURM's queue" in process.said
    process = start(*command)
    process.wait_for(Path("said-1.txt"))
    while "0 jobs submitted to SLURM, 2 are there already" not in process.said:
        assert process.is_alive(), process.said
        time.sleep(0.01)
    os.kill(status("seed=1")["pid"], signal.SIGKILL)
    code, said = process.exit_code(), process.said
    assert code == 1 and status("seed=0")["status"] == "done" and status("seed=1")["status"] == "killed"
    assert "FAILED, exit code 0, signal 9" in status("seed=1")["message"] and status("seed=1")["message"] in said
    code, said = sweep(*command)
    assert code == 0 and "1 jobs submitted to SLURM" in said, said
    assert "going on after iteration" in (folders[1] / "output.txt").read_text()
