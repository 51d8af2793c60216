"""A sweep as a whole: what ends a job ends no other, and the same command goes on."""

import os
import random
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import orjson
import pytest
from hydra.core.config_store import ConfigStore

import mbtrain
from tests.conftest import rows, without_times
from tests.forked import Forked
from tests.study.conftest import QUIET, at, status

Sweep = Callable[..., tuple[int, str]]
MIXED = ["loss=good,raises,exits,killed,diverges,fine", "duration=3it"]
MESSAGES = {
    "good": ("done", None),
    "raises": ("failed", "RuntimeError: no luck"),
    "exits": ("failed", "SystemExit: 7"),
    "killed": ("killed", "killed by SIGKILL"),
    "diverges": ("failed", "Failed: iteration 1 (epoch 1): the loss is not finite"),
    "fine": ("done", None),
}


def statuses() -> dict[str, tuple[str, str | None]]:
    """What became of each job, without the layers where a number was not finite."""
    found = {name: status(f"loss={name}") for name in MESSAGES}
    return {name: (one["status"], (one["message"] or "").partition(", in ")[0] or None) for name, one in found.items()}


def finished_at() -> dict[str, int]:
    return {file.parent.name: file.stat().st_mtime_ns for file in Path("s").glob("*/result.json")}


def test_what_ends_a_job_ends_no_other(sweep: Sweep) -> None:
    code, said = sweep(*MIXED)
    assert code == 1
    assert statuses() == MESSAGES
    assert "loss=raises: RuntimeError: no luck\n" in said and "loss=killed: killed by SIGKILL\n" in said
    assert "Traceback" not in said
    assert "Traceback" in (at("duration=3it,loss=raises") / "output.txt").read_text()


def test_a_job_whose_process_leaves_without_a_word_has_failed(sweep: Sweep) -> None:
    assert sweep("loss=leaves,good", "duration=3it")[0] == 1
    assert status("loss=leaves")["message"] == "its process ended with exit code 0"
    assert status("loss=good")["status"] == "done"


def test_the_same_command_repeats_neither_what_is_done_nor_what_failed(sweep: Sweep) -> None:
    sweep(*MIXED)
    before = finished_at()
    Path("mended").touch()
    code, said = sweep(*MIXED)
    assert code == 1 and finished_at().items() > before.items()
    # What was killed is no failure of the job: it goes on.
    assert statuses() == MESSAGES | {"killed": ("done", None)}
    assert "sweep.retry=failed" in said and "sweep  1/1  done     loss=killed" in said


def test_a_sweep_that_skipped_nothing_would_be_seen(sweep: Sweep, monkeypatch: pytest.MonkeyPatch) -> None:
    command = ["loss=good", "duration=3it"]
    sweep(*command)
    before = finished_at()
    monkeypatch.setattr("mbtrain.study.folder.is_done", lambda job: False)
    sweep(*command)
    assert finished_at().keys() == before.keys() and finished_at() != before


def test_failures_are_repeated_where_asked(sweep: Sweep) -> None:
    sweep("loss=good,raises", "duration=3it")
    Path("mended").touch()
    code, said = sweep("loss=good,raises", "duration=3it", "sweep.retry=failed")
    assert code == 0 and status("loss=raises")["status"] == "done" and "sweep  1/1  done" in said


def test_a_wider_sweep_adds_what_is_new(sweep: Sweep) -> None:
    assert sweep("seed=0", "loss=good", "duration=3it")[0] == 0
    before = finished_at()
    assert sweep("seed=0,1", "loss=good", "duration=3it")[0] == 0
    content = orjson.loads(Path("s", "sweep.json").read_bytes())
    names = [at(f"duration=3it,loss=good,seed={seed}").name for seed in (0, 1)]
    assert [job["folder"] for job in content["jobs"]] == names and content["factors"] == ["seed"]
    assert content["overrides"][-3:] == ["seed=0,1", "loss=good", "duration=3it"] and content["name"] == "s"
    assert {names[0]: before[names[0]]}.items() <= finished_at().items()


def test_a_folder_with_another_run_is_refused_before_anything_starts(sweep: Sweep) -> None:
    sweep("loss=good", "seed=0", "duration=3it")
    config = at("duration=3it,loss=good,seed=0") / "config.yaml"
    config.write_text(config.read_text().replace("momentum: 0.9", "momentum: 0.8"))
    before = Path("s", "sweep.json").read_bytes()
    code, said = sweep("loss=good", "seed=1,0", "duration=3it")
    assert code == 2 and said.startswith("mbtrain: optimizer.momentum=0.9: the run in s/duration=3it,loss=good,seed=0")
    assert len(said.splitlines()) == 1 and Path("s", "sweep.json").read_bytes() == before


def test_a_second_sweep_in_a_folder_is_refused(start: Callable[..., Forked], sweep: Sweep) -> None:
    first = start("loss=slow", "seed=0", "duration=1000ep")
    first.wait_for(at("duration=1000ep,loss=slow,seed=0") / "iterations.jsonl")
    code, said = sweep("loss=slow", "seed=1", "duration=1ep")
    assert code == 2 and said.startswith("mbtrain: sweep_dir=s: another process is training there")
    assert first.is_alive()


def test_a_job_that_another_process_trains_is_refused(start: Callable[..., Forked], sweep: Sweep) -> None:
    first = start("loss=slow", "seed=0", "duration=1000ep")
    folder = at("duration=1000ep,loss=slow,seed=0")
    first.wait_for(folder / "iterations.jsonl")
    Path("t").mkdir()
    Path("t", folder.name).symlink_to(folder.resolve())
    code, said = sweep("loss=slow", "seed=0", "duration=1000ep", "sweep_dir=t")
    assert code == 2 and "another process is training there" in said


# As a queue or `kill` sends it, and as a terminal does.
@pytest.mark.parametrize(("number", "to_group"), [(signal.SIGTERM, False), (signal.SIGINT, True)])
def test_a_signal_has_the_jobs_save_and_the_same_command_goes_on(
    start: Callable[..., Forked], sweep: Sweep, number: signal.Signals, to_group: bool
) -> None:
    command = ["loss=slow", "seed=0,1", "duration=12ep", "checkpoint.every=null"]
    first = start(*command)
    folder = at("duration=12ep,loss=slow,seed=0")
    first.wait_for(folder / "iterations.jsonl")
    (os.killpg if to_group else os.kill)(first.pid, number)
    assert first.exit_code() == 128 + number
    assert status("seed=0")["status"] == "interrupted" and status("seed=1")["status"] == "waiting"
    assert len(list((folder / "checkpoints").glob("iteration-*.ckpt"))) == 1
    done = len(rows(folder))
    assert sweep(*command)[0] == 0
    assert "going on after iteration" in (folder / "output.txt").read_text() and len(rows(folder)) > done


def test_a_second_interrupt_ends_at_once(start: Callable[..., Forked]) -> None:
    # A job that cannot save: it is inside one iteration for a minute.
    first = start("loss=stuck", "seed=0", "duration=5ep")
    folder = at("duration=5ep,loss=stuck,seed=0")
    first.wait_for(folder / "config.yaml")
    time.sleep(0.3)
    began = time.monotonic()
    for _ in range(2):
        os.kill(first.pid, signal.SIGINT)
        time.sleep(0.3)
    assert first.exit_code() == 128 + signal.SIGINT and time.monotonic() - began < 10
    assert status("seed=0")["status"] == "interrupted"


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a child of its parent's death")
def test_jobs_save_and_end_where_the_sweep_alone_is_killed(start: Callable[..., Forked]) -> None:
    process = start("loss=slow", "seed=0", "duration=1000ep")
    folder = at("duration=1000ep,loss=slow,seed=0")
    process.wait_for(folder / "iterations.jsonl")
    os.kill(process.pid, signal.SIGKILL)
    deadline = time.monotonic() + 10
    while status("seed=0")["status"] == "running" and time.monotonic() < deadline:
        time.sleep(0.01)
    assert status("seed=0")["status"] == "interrupted" and list((folder / "checkpoints").iterdir())


def test_jobs_at_once_share_the_cores(sweep: Sweep, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mbtrain.training.place.num_cores", lambda: 5)
    monkeypatch.setattr("mbtrain.training.place.FLOPS_WORTH_THREADS", 0)
    code, said = sweep("loss=good", "seed=0,1", "duration=3it", "trainer.threads=null", "sweep.jobs=2")
    assert code == 0, said
    chosen = [orjson.loads(file.read_bytes())["threads"] for file in Path("s").glob("*/chosen.json")]
    assert chosen == [2, 2]


def test_jobs_at_once_do_run_at_once(start: Callable[..., Forked]) -> None:
    folders = [at(f"duration=1000ep,loss=slow,seed={seed}") for seed in (0, 1)]
    process = start("loss=slow", "seed=0,1,2", "duration=1000ep", "sweep.jobs=2")
    process.wait_for(*(folder / "iterations.jsonl" for folder in folders))
    assert status("seed=2")["status"] == "waiting"


def test_a_job_in_a_sweep_trains_what_it_trains_alone(sweep: Sweep, folder: Path) -> None:
    sweep("loss=good", "seed=3,4", "duration=2ep", "batch.size=50")
    alone = mbtrain.run(
        ["loss=good", "seed=4", "duration=2ep", "batch.size=50", "trust=my_losses", *QUIET, "run_dir=alone"],
        config_dir="conf",
    )
    cut = at("batch.size=50,duration=2ep,loss=good,seed=4")
    assert orjson.loads((cut / "result.json").read_bytes())["weights_sha256"] == alone["weights_sha256"]
    assert without_times(rows(cut)) == without_times(rows(Path("alone")))


def test_a_data_set_that_cannot_be_read_is_each_jobs_failure(sweep: Sweep) -> None:
    code, said = sweep("seed=0,1", "dataset=arrays", "dataset.path=no.npz")
    assert code == 1 and said.count("no.npz") >= 2 and "Traceback" not in said


def test_a_command_that_has_nothing_left_says_so_and_gives_0(sweep: Sweep) -> None:
    command = ["loss=good", "seed=0,1", "duration=3it"]
    assert sweep(*command)[0] == 0
    code, said = sweep(*command)
    assert code == 0 and said.startswith("2 of 2 jobs are done already") and "sweep  " not in said


def broken(folders: list[Path]) -> Path:
    raise ValueError("no ink")


@pytest.mark.parametrize("is_broken", [False, True], ids=["written", "failing"])
def test_a_report_is_written_at_the_end_and_may_fail(
    sweep: Sweep, monkeypatch: pytest.MonkeyPatch, report: ModuleType, is_broken: bool
) -> None:
    if is_broken:
        monkeypatch.setattr(report, "write_report", broken)
    code, said = sweep("loss=good", "seed=0", "duration=3it")
    line = "no report: no ink" if is_broken else "report: s/report.html"
    assert code == 0 and line in said.splitlines()[-1]


def test_another_launcher_of_hydras_runs_the_same_jobs(sweep: Sweep) -> None:
    # As an installed plugin brings it.
    target = "hydra._internal.core_plugins.basic_launcher.BasicLauncher"
    ConfigStore.instance().store(group="hydra/launcher", name="same", node={"_target_": target})
    command = ["hydra/launcher=same", "trust=[my_losses,hydra]", "loss=good", "seed=0,1", "duration=3it"]
    code, said = sweep(*command)
    assert code == 0, said
    assert {file.parent for file in Path("s").glob("*/result.json")} == {
        at(f"duration=3it,loss=good,seed={seed}") for seed in (0, 1)
    }


@pytest.mark.slow
def test_jobs_are_spawned_where_there_is_no_fork(sweep: Sweep, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("pool", "shared"):
        monkeypatch.setattr(f"mbtrain.study.{module}.START_METHOD", "spawn")
    code, said = sweep("loss=good", "duration=3it")
    assert code == 0 and status("loss=good")["status"] == "done", said


def wait_for_training(process: Forked) -> None:
    """Until a log grows, or the sweep has ended."""

    def sizes() -> list[int]:
        return [file.stat().st_size for file in Path("s").glob("*/iterations.jsonl")]

    before = sizes()
    while process.is_alive() and sizes() == before:
        time.sleep(0.005)


def num_saved() -> int:
    """How many of the sweep's checkpoints there have been."""
    return sum(int(path.stem.split("-")[1]) for path in Path("s").glob("*/checkpoints/iteration-*.ckpt"))


@pytest.mark.slow
def test_six_kills_of_the_whole_sweep_leave_it_as_it_would_have_been(
    start: Callable[..., Forked], sweep: Sweep
) -> None:
    command = ["loss=good", "seed=0,1", "batch.size=16,48", "duration=10ep", "checkpoint.every=13it"]
    assert sweep(*command, "sweep_dir=whole")[0] == 0
    draw = random.Random(1)
    for number in range(6):
        process, saved = start(*command), num_saved()
        if number % 2:
            # As fast as the machine is today: a job is under way, and has something to go on from.
            deadline = time.monotonic() + 20
            while num_saved() == saved and time.monotonic() < deadline:
                time.sleep(0.01)
        time.sleep(draw.uniform(0, 0.3 if number % 2 else 2.5))
        process.kill()
    code, said = sweep(*command)
    assert code == 0, said
    jobs = sorted(one.parent.name for one in Path("whole").glob("*/result.json"))
    assert len(jobs) == 4
    # The kills did strike jobs that were training.
    assert sum(file.read_text().count("going on after iteration") for file in Path("s").glob("*/output.txt")) >= 2
    for job in jobs:
        whole, cut = Path("whole", job), Path("s", job)
        results = [orjson.loads((one / "result.json").read_bytes()) for one in (whole, cut)]
        assert results[0]["weights_sha256"] == results[1]["weights_sha256"]
        for log in ("iterations", "epochs"):
            assert without_times(rows(whole, log)) == without_times(rows(cut, log))
