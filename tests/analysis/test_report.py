"""The report as files: whole, self-contained, safe, whatever state the runs are in."""

import csv
import json
import os
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

import mbtrain
from mbtrain.analysis.report import write_report
from mbtrain.plan.refused import Refused
from tests.analysis.folders import grid, make_run, make_sweep, write_sweep
from tests.conftest import QUIET

EVIL = "<script>alert(1)</script>"
VOID = {"meta", "link", "br"}


class Checked(HTMLParser):
    """Reads a page: its words, tags, addresses; every element must be closed."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.words, self.tags, self.addresses, self._open = "", [], [], []
        self.feed(page)
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.addresses += [value for name, value in attrs if name in ("src", "href", "action", "srcset")]
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words += data


def report(*folders: Path, by: str | None = None) -> Checked:
    return Checked(write_report(folders, by=by, with_pictures=False).read_text())


def bowl(lr: float, size: int, seed: int) -> float:
    return abs(np.log10(lr) + 1) + size / 1000 + seed / 50


@pytest.fixture
def sweep(tmp_path: Path) -> Path:
    return make_sweep(tmp_path / "sweep", grid(bowl, rates=(0.01, 0.1, 1.0), sizes=(32, 64), seeds=3))


def test_a_sweep_s_report_stands_at_its_top_with_all_files(sweep: Path) -> None:
    assert write_report([sweep]) == sweep / "report.html"
    beside = {str(path.relative_to(sweep / "report")) for path in (sweep / "report").rglob("*") if path.is_file()}
    assert {"report.md", "results.csv", "figures/heat.png", "figures/sensitivity.png", "figures/settings.png"} <= beside


def test_a_sweep_s_page_has_every_section(sweep: Path) -> None:
    page = report(sweep)
    for word in ("Which factors matter", "Learning-rate sensitivity", "batch.size by optimizer.lr", "Curves"):
        assert word in page.words
    assert "The best again, with further seeds: mbtrain -m optimizer.lr=0.1 batch.size=32" in page.words


def test_the_command_that_repeats_the_best_writes_elsewhere(tmp_path: Path) -> None:
    overrides = [("batch.size=32", f"seed={seed}", "duration=3ep", "sweep_dir=here") for seed in range(2)]
    overrides += [("batch.size=64", f"seed={seed}", "duration=3ep", "sweep_dir=here") for seed in range(2)]
    make_sweep(tmp_path, dict(zip(overrides, (0.1, 0.2, 0.5, 0.6), strict=True)))
    assert "mbtrain -m batch.size=32 duration=3ep seed=10,11,12,13,14" in report(tmp_path).words


def test_a_page_needs_nothing_from_elsewhere(sweep: Path) -> None:
    text = write_report([sweep], with_pictures=False).read_text()
    assert [one for one in Checked(text).addresses if one != "data:,"] == []
    assert not re.search(r"https?://|@import|url\(|fetch\(|XMLHttpRequest", text)


def test_a_real_run_s_page_shows_what_its_probe_logged(tmp_path: Path) -> None:
    mbtrain.run([*QUIET, f"run_dir={tmp_path}/one", "duration=2ep", "probe=gradient_norm"])
    page = report(tmp_path / "one")
    for word in ("Training", "train/loss", "Validation", "val/loss", "gradient/norm", "Time", "Config", "batch.size"):
        assert word in page.words
    assert "samplesiterationsseconds" in page.words  # the buttons that choose an axis


def test_pictures_and_markdown_of_a_run_belong_together(tmp_path: Path) -> None:
    write_report([make_run(tmp_path / "one", gradient=1.0)])
    text = (tmp_path / "one" / "report" / "report.md").read_text()
    pictures = re.findall(r"\]\((.*?)\)", text)
    assert pictures and all((tmp_path / "one" / "report" / one).is_file() for one in pictures)


def test_results_csv_has_a_line_a_run_with_its_overrides(sweep: Path) -> None:
    write_report([sweep], with_pictures=False)
    table = list(csv.DictReader((sweep / "report" / "results.csv").read_text().splitlines()))
    assert len(table) == 18
    for line in table:
        expected = bowl(float(line["optimizer.lr"]), int(line["batch.size"]), int(line["seed"]))
        assert float(line["val/loss"]) == pytest.approx(expected, rel=1e-12)


def test_failed_and_waiting_jobs_are_shown_with_messages(tmp_path: Path) -> None:
    jobs = [{"folder": f"seed={seed}", "overrides": [f"seed={seed}"]} for seed in range(4)]
    write_sweep(tmp_path, jobs)
    make_run(tmp_path / "seed=0")
    make_run(tmp_path / "seed=1", config={"seed": 1}, status="failed", message="ValueError: no such thing")
    make_run(tmp_path / "seed=2", config={"seed": 2}, status="running", pid=2**22 - 1)
    page = report(tmp_path)
    assert "ValueError: no such thing" in page.words and "its process is gone" in page.words
    assert "4 runs: 1 done, 1 failed, 1 killed, 1 waiting" in page.words


def test_a_sweep_of_which_nothing_is_done_has_a_page(tmp_path: Path) -> None:
    write_sweep(tmp_path, [{"folder": f"seed={seed}", "overrides": [f"seed={seed}"]} for seed in range(2)])
    assert "nothing to compare yet" in report(tmp_path).words


def test_all_diverged_has_a_page(tmp_path: Path) -> None:
    make_sweep(tmp_path, {("batch.size=32",): None, ("batch.size=64",): None})
    assert "2 runs ended without a finite score" in report(tmp_path).words


def test_a_diverged_seed_is_counted_beside_its_setting_s_mean(tmp_path: Path) -> None:
    make_sweep(tmp_path, {("batch.size=32", "seed=0"): 0.5, ("batch.size=32", "seed=1"): None, ("batch.size=64",): 0.6})
    assert "0.5, n = 1, 1 diverged" in report(tmp_path).words


def test_several_sweeps_are_compared_at_their_best(tmp_path: Path) -> None:
    for name, shift in (("good", 0.0), ("bad", 1.0)):
        scores = grid(
            lambda lr, size, seed, by=shift: bowl(lr, size, seed) + by, rates=(0.1, 1.0), sizes=(32,), seeds=3
        )
        make_sweep(tmp_path / name, scores)
    page = report(tmp_path / "good", tmp_path / "bad")
    assert "Test loss of bad less that of good: 1.000 [0.955, 1.045], n = 3" in page.words
    assert (tmp_path / "good" / "report.html").exists() and not (tmp_path / "bad" / "report.html").exists()


def test_words_of_a_run_make_no_markup(tmp_path: Path) -> None:
    for seed in range(3):
        config = {"seed": seed, EVIL: EVIL, "note": f"{EVIL}{seed}"}
        make_run(tmp_path / EVIL.replace("/", "_") / f"{seed}{EVIL}".replace("/", "_"), config=config)
    make_run(tmp_path / "failed", status="failed", message=f"{EVIL}\n| # {EVIL}")
    page = report(tmp_path)
    assert page.tags.count("script") == 1 and EVIL in page.words
    assert "<script" not in (tmp_path / "report" / "report.md").read_text()


def test_columns_of_a_run_make_no_markup_and_no_paths(tmp_path: Path) -> None:
    make_run(tmp_path / "one", **{f"../../{EVIL}": 1.0})
    write_report([tmp_path / "one"])
    page = Checked((tmp_path / "one" / "report.html").read_text())
    assert page.tags.count("script") == 1 and EVIL in page.words
    assert {path.name for path in tmp_path.iterdir()} == {"one"}


@pytest.mark.parametrize("name", ["iterations.jsonl", "epochs.jsonl"])
def test_a_damaged_log_is_told(tmp_path: Path, name: str) -> None:
    run = make_run(tmp_path / "one")
    lines = (run / name).read_bytes().splitlines(keepends=True)
    (run / name).write_bytes(lines[0] + b"\xff\xfe{{\n" + b"".join(lines[1:]) + b'{"iteration": 9')
    assert f"{name}: 1 damaged lines were left out" in report(run).words


def test_logs_that_are_noise_give_a_page(tmp_path: Path) -> None:
    run = make_run(tmp_path / "one")
    for name in ("iterations.jsonl", "epochs.jsonl"):
        (run / name).write_bytes(os.urandom(10_000))
    assert "one reached" in report(run).words


def test_by_another_score(sweep: Path) -> None:
    assert "has the best mean test loss" in report(sweep, by="test/loss").words
    with pytest.raises(Refused, match="--by val/accuracy: no run has this score, the runs have"):
        report(sweep, by="val/accuracy")


def test_a_report_in_a_folder_is_no_run_of_the_next(sweep: Path) -> None:
    first = report(sweep).words
    assert report(sweep).words == first


def test_a_finished_run_with_a_report_is_still_finished(tmp_path: Path) -> None:
    command = [*QUIET, f"run_dir={tmp_path}/one", "duration=1ep"]
    mbtrain.run(command)
    report(tmp_path / "one")
    assert not mbtrain.run(command).is_new


def test_a_name_that_is_no_unicode_gives_a_page(tmp_path: Path) -> None:
    make_run(Path(os.fsdecode(os.fsencode(tmp_path) + b"/one\xff")))
    write_report([tmp_path], with_pictures=False)
    assert "one?" in (tmp_path / "report.html").read_text()


def test_a_message_that_is_no_text_is_shown(tmp_path: Path) -> None:
    run = make_run(tmp_path / "one")
    (run / "status.json").write_text(json.dumps({"status": "failed", "pid": None, "message": {"a": [1]}}))
    assert "one" in report(run).words
