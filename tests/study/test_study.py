"""A study from end to end on as little as it takes, its stages repeated and cut."""

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson
import pytest

from tests.forked import Forked

Sweep = Callable[..., tuple[int, str]]

TINY = """# @package study
question: Does it?
name: tiny
scale: small
arms:
  step: [batch.size=16]
  accumulate: [batch.size=64, batch.micro_size=16]
reference: step
budget: time
also: [samples, updates]
primary: {arm: accumulate, against: step}
margin: 0.05
overrides: [dataset=digits, "model.hidden=[8]", dataset.train_size=320]
grid: {points: 3, factor: 4.0, most_extensions: 2}
scales:
  small:
    num_tuning_seeds: 1
    num_seeds: 3
    cases:
      digits: {overrides: [model=mlp], lr: 0.1, length: 640, calibrate: 640}
"""


@pytest.fixture(autouse=True)
def tiny(folder: Path) -> None:
    (folder / "conf" / "study").mkdir()
    (folder / "conf" / "study" / "tiny.yaml").write_text(TINY)


def study(run: Callable[..., tuple[int, str]], *overrides: str) -> tuple[int, str]:
    return run("study=tiny", "study_dir=asked", *overrides)


def logs() -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in Path("asked").glob("*/*/iterations.jsonl")}


@pytest.mark.slow
def test_a_study_answers_in_a_sentence_and_again_runs_nothing(command: Sweep) -> None:
    code, said = study(command)
    assert code == 0, said
    content = orjson.loads(Path("asked/study.json").read_bytes())
    case = content["cases"]["digits"]
    assert {len(runs) for runs in case["runs"].values()} == {3}
    assert all((Path("asked") / run / "result.json").is_file() for runs in case["runs"].values() for run in runs)
    assert "digits: accumulate (batch 64)" in said and "at equal time: validation loss" in said
    page = Path("asked/report.html").read_text()
    assert "(primary)" in page and "Does it?" in page
    before = logs()
    code, again = study(command)
    assert code == 0 and logs() == before
    assert said.splitlines()[-2] == again.splitlines()[-2]


@pytest.mark.slow
def test_interrupted_and_then_killed_study_goes_on_to_the_same_answer_for_the_runs_it_had(
    start_command: Callable[..., Forked], command: Sweep
) -> None:
    process = start_command("study=tiny", "study_dir=asked")
    process.wait_for(Path("asked/calibrate/sweep.json"))
    os.kill(process.pid, signal.SIGTERM)
    assert process.exit_code() == 128 + signal.SIGTERM
    process = start_command("study=tiny", "study_dir=asked")
    process.wait_for(Path("asked/tune/sweep.json"))
    time.sleep(0.5)
    process.kill()
    # A run that was killed between its result and its last word ends anew.
    done = {
        path
        for path in Path("asked").glob("*/*/result.json")
        if b'"done"' in (path.parent / "status.json").read_bytes()
    }
    before = {path: path.read_bytes() for path in done}
    code, said = study(command)
    assert code == 0, said
    assert {path: path.read_bytes() for path in done} == before


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["study.scale=smal"], "study.scale=smal: no such scale; did you mean small?"),
        (["study.reference=steps"], "study.reference=steps: no such arm; choose from step, accumulate"),
        (["study.budget=money"], "study.budget=money: no such budget; choose from time, samples, updates, target"),
        (["+study.contrast=[]"], "study.contrast: no such key of a study; did you mean contrasts?"),
        (["~study.margin"], "study.margin: a study needs it, and tiny has none"),
        (["study.margin=0"], "study.margin=0: must be a number above 0"),
        (["batch.sise=3"], "batch.sise"),
        (["study.overrides=['batch_schedule=ramp']"], "study: batch_schedule=ramp: arms are given one time"),
        (["trainer.engine=auto"], "trainer.engine=auto: it may take another engine for a timed run"),
        (["-m", "seed=1,2"], "-m: a study makes its own runs"),
    ],
)
def test_wrong_study_is_refused_and_leaves_no_folder(command: Sweep, overrides: list[str], message: str) -> None:
    code, said = study(command, *overrides)
    assert code == 2 and message in said, said
    assert not Path("asked").exists()


def test_other_design_in_the_same_folder_is_refused(command: Sweep) -> None:
    Path("asked").mkdir()
    Path("asked/design.json").write_text("{}")
    code, said = study(command)
    assert code == 2 and "study_dir=asked: holds another design" in said, said


@pytest.mark.parametrize("budget", ["time", "samples"])
def test_study_whose_runs_are_refused_says_why_in_one_line_and_begins_anew(
    command: Sweep, monkeypatch: pytest.MonkeyPatch, budget: str
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    code, said = study(command, "trainer.accelerator=gpu", f"study.budget={budget}")
    assert code == 2 and "mbtrain: trainer.accelerator=gpu: there is no GPU" in said.splitlines()[-1], said
    stage = "calibrate" if budget == "time" else "tune"
    before = {path: path.read_bytes() for path in Path("asked", stage).glob("*/status.json")}
    assert len(before) > 1 and all(b"Refused" in one for one in before.values())
    study(command, "trainer.accelerator=gpu", f"study.budget={budget}")
    assert all(path.read_bytes() != one for path, one in before.items()), "a refused run is begun again"


def test_study_whose_runs_fail_before_they_are_timed_says_which_and_where(
    command: Sweep, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise RuntimeError("no such luck")

    monkeypatch.setattr("mbtrain.one_run.train", fail)
    code, said = study(command)
    assert (
        code == 2
        and "step cannot be timed, 5 of its runs were not done" in said
        and "RuntimeError: no such luck" in said.splitlines()[-1]
    ), said
