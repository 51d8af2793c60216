"""The command line, as it is typed."""

import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from mbtrain.__main__ import exit_code
from mbtrain.config.driver import conf_dir
from tests.forked import Forked

QUIET = ["tracker=none", "trainer.threads=1", "trainer.accelerator=cpu", "trainer.progress=false", "duration=2it"]
MBTRAIN = [sys.executable, "-m", "mbtrain"]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working folder."""
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    monkeypatch.setattr(sys, "path", list(sys.path))
    return here


@pytest.fixture
def say(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """Type a command line in this process: exit code, what it said on stdout and stderr."""

    def typed(*arguments: str) -> tuple[int, str, str]:
        capsys.readouterr()
        code = exit_code(arguments)
        said = capsys.readouterr()
        return code, said.out, said.err

    return typed


def run(*arguments: str, **options: object) -> "subprocess.CompletedProcess[str]":
    return subprocess.run([*MBTRAIN, *arguments], capture_output=True, text=True, timeout=300, **options)  # type: ignore


REFUSED = [
    (["batch.size=abc"], "batch.size=abc: must be a whole number of at least 1, or all"),
    (["batch.size=["], "batch.size=[: cannot be read"),
    (["batch.size"], "batch.size: is no key=value: write batch.size=VALUE"),
    (["batch.sise=3"], "batch.sise=3: no such key; did you mean batch.size?"),
    (["modle=mlp"], "modle=mlp: no such key; did you mean model?"),
    (["model=foo"], "model=foo: no such choice; choose from cnn, gpt, mlp, resnet"),
    (["nothing=foo"], "nothing=foo: no such key; mbtrain --cfg job shows all"),
    (["study/x=foo"], "study/x=foo: no such key"),
    (["+unknown.key=1"], "unknown={key: 1}: no such key"),
    (["+batch.size=3"], "+batch.size: is there already: write batch.size=VALUE, without the +"),
    (["~batch.sizes"], "~batch.sizes: no such key; did you mean batch.size?"),
    (["batch_norm.half_life=1ep", "batch_norm.momentum=0.1"], "batch_norm.half_life=1ep and batch_norm.momentum=0.1:"),
    (["batch_norm.recalibrate=always"], "batch_norm.recalibrate=always: must be one of never, end, before_eval"),
    (["batch_norm.r_max=0.5"], "batch_norm.r_max=0.5: must be a number of at least 1"),
    (["seed=1,2"], "seed=1,2: is several values: add -m for a sweep over them, or write a list, seed=[1,2]"),
    (["model.hidden={a: 1}"], "model.hidden={a: 1}: does not fit there"),
    (["--no-such-flag"], "--no-such-flag: no such option; mbtrain --help tells of all"),
    (["--confg-dir=x"], "--confg-dir=x: no such option; did you mean --config-dir?"),
    (["--batch.size=3"], "--batch.size=3: keys have no dashes before them: write batch.size=3"),
    (["--cfg", "nope"], "--cfg=nope: choose from job, hydra, all"),
    (["--config-name"], "--config-name/-cn: expected one argument"),
    (["--cfg", "job", "--run"], "--run, --multirun, --cfg, --info: one at a time"),
    (["--config-dir", "nope"], "--config-dir=nope: there is no such folder"),
    (["--config-path", "nope"], "--config-path=nope: there is no such folder"),
    (["--config-name", "nope"], "--config-name=nope: there is no nope.yaml in --config-dir"),
    (["--experimental-rerun", "x"], "--experimental-rerun: reads a pickle, which can run code"),
    (["hydra.mode=MULTIRUN"], "hydra.mode: write -m for a sweep"),
    (["+model.hiden=[3]"], "model.hiden=[3]: mbtrain.models.mlp.Mlp has no such option; did you mean model.hidden?"),
    (["model._target_=os.system"], "model._target_=os.system: os is not trusted to run code"),
    (["model._target_=my.Model"], "model._target_=my.Model: my is not trusted to run code; if it is yours"),
    (["-m", "batch.size=32,abc", "seed=0,1"], "batch.size=abc: must be a whole number of at least 1, or all"),
    (["-m", "batch=mini_batch,nope"], "batch=nope: no such choice; choose from full_batch, mini_batch, stochastic"),
    (["-m", "seed=interval(0,1)"], "-m: BasicSweeper does not support sweep type"),
    (["-m", "seed=0,0"], "-m: two jobs would write to sweeps/digits_mlp/seed=0: give each value once"),
    (["-m", "run_dir=a,b"], "run_dir: each job of a sweep has its own folder: give sweep_dir=PATH"),
    (["resume=nothing"], "resume=nothing: is not the folder of a run"),
]


@pytest.mark.parametrize(("arguments", "line"), REFUSED, ids=[" ".join(one) for one, _ in REFUSED])
def test_a_refusal_is_one_line_exit_2_and_no_folder(
    say: Callable[..., tuple[int, str, str]], folder: Path, arguments: list[str], line: str
) -> None:
    code, out, err = say(*arguments)
    assert (code, out) == (2, "")
    assert err.startswith(f"mbtrain: {line}") and len(err.splitlines()) == 1
    assert list(folder.iterdir()) == []


def test_all_faults_are_told_a_line_each(say: Callable[..., tuple[int, str, str]]) -> None:
    code, _, err = say("batch.size=0", "seed=-1")
    assert code == 2
    assert [line.split("=")[0] for line in err.splitlines()] == ["mbtrain: seed", "mbtrain: batch.size"]


def test_the_jobs_of_a_sweep_are_all_checked_before_the_first(
    say: Callable[..., tuple[int, str, str]], folder: Path
) -> None:
    code, _, err = say("-m", "seed=0,1", "batch.size=0,32,-1")
    assert code == 2 and len(err.splitlines()) == 2
    assert list(folder.iterdir()) == []


TORCH_FREE = """
import sys
from mbtrain.__main__ import exit_code
for words in sys.argv[1:]:
    code = exit_code(words.split())
    heavy = {"torch", "pytorch_lightning", "wandb", "sklearn", "numpy", "pydantic"} & set(sys.modules)
    print("code", code, *sorted(heavy), file=sys.stderr)
"""
LIGHT = {
    "batch.size=abc": 2,
    "batch.sise=3": 2,
    "model._target_=os.system": 2,
    "+model.hiden=[3]": 2,
    "+optimizer.every=1ep": 2,
    "lr_schedule.warmup=x": 2,
    "batch.accumulate=3 batch.micro_size=3": 2,
    "-m batch.size=1,x": 2,
    "resume=nothing": 2,
    "--help": 0,
    "--cfg job --resolve": 0,
    "--info defaults-tree": 0,
    "-sc install=bash": 0,
}


def test_torch_is_imported_for_no_refusal_and_no_help() -> None:
    said = subprocess.run([sys.executable, "-c", TORCH_FREE, *LIGHT], capture_output=True, text=True, check=True).stderr
    told = [line for line in said.splitlines() if line.startswith("code ")]
    assert dict(zip(LIGHT, told, strict=True)) == {words: f"code {code}" for words, code in LIGHT.items()}


def test_help_is_a_page_that_fits_a_terminal(say: Callable[..., tuple[int, str, str]]) -> None:
    code, out, _ = say("--help")
    assert code == 0
    assert max(map(len, out.splitlines())) <= 80
    assert len(out.splitlines()) <= 70


def test_help_lists_every_choice_with_the_one_in_use_first(say: Callable[..., tuple[int, str, str]]) -> None:
    _, out, _ = say("--help")
    page = " ".join(out.split())
    for file in conf_dir().glob("*/*.yaml"):
        assert file.parent.name in page and file.stem in page
    assert "model mlp, cnn" in page


def test_help_names_no_key_that_is_not_there(say: Callable[..., tuple[int, str, str]]) -> None:
    from mbtrain.config.check import check
    from mbtrain.config.compose import composed

    _, out, _ = say("--help")
    commands = [line.split("  ")[1].split()[1:] for line in out.splitlines() if line.startswith("  mbtrain ")]
    for words in commands[1:5]:
        overrides = [word for word in words if "=" in word and "," not in word and "mine" not in word]
        check(composed(overrides))


def test_the_composed_config_is_shown_resolved(say: Callable[..., tuple[int, str, str]]) -> None:
    code, out, _ = say("--cfg", "job", "--resolve", "batch.size=7")
    assert code == 0 and "\n  size: 7\n" in out and "name: digits_mlp\n" in out and "${" not in out


def test_options_may_stand_anywhere(say: Callable[..., tuple[int, str, str]]) -> None:
    assert "seed: 3\n" in say("seed=3", "--cfg", "job", "model=cnn")[1]


def test_the_defaults_tree_is_shown() -> None:
    # Hydra sets up logging for it: in a process of its own.
    done = run("--info", "defaults-tree")
    assert done.returncode == 0 and "dataset: digits" in done.stdout


def test_tab_completion_installs() -> None:
    done = run("-sc", "install=bash")
    assert done.returncode == 0 and "complete -o nospace" in done.stdout
    assert subprocess.run(["bash", "-n"], input=done.stdout, text=True).returncode == 0


def test_tab_completion_knows_keys_and_choices(say: Callable[..., tuple[int, str, str]], monkeypatch) -> None:
    monkeypatch.setenv("COMP_LINE", "mbtrain batch_norm.g")
    assert say("-sc", "query=bash")[1].split() == ["batch_norm.group_size="]
    monkeypatch.setenv("COMP_LINE", "mbtrain dataset=d")
    assert say("-sc", "query=bash")[1].split() == ["dataset=digits"]


def test_the_version_is_ours(say: Callable[..., tuple[int, str, str]]) -> None:
    code, out, _ = say("--version")
    assert code == 0 and out.startswith("mbtrain 0")


def test_a_reader_that_has_seen_enough_is_no_error() -> None:
    line = f"{' '.join(MBTRAIN)} --cfg job | true; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", line], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (128 + signal.SIGPIPE, "")


def test_a_run_ends_with_0_and_a_table(forked: Callable[..., Forked], folder: Path) -> None:
    code, said = forked(lambda: exit_code([*QUIET, "run_dir=a"])).ended()
    assert code == 0, said
    assert "test accuracy" in said and "Error" not in said
    assert [one.name for one in folder.iterdir()] == ["a"]


def test_a_folder_that_holds_something_else_is_refused_untouched(
    say: Callable[..., tuple[int, str, str]], folder: Path
) -> None:
    (folder / "a").mkdir()
    (folder / "a" / "notes.txt").write_text("mine")
    code, _, err = say(*QUIET, "run_dir=a")
    assert code == 2 and err.startswith("mbtrain: run_dir=a: is not empty and holds no run")
    assert [one.name for one in (folder / "a").iterdir()] == ["notes.txt"]


def test_what_needs_the_model_is_refused_before_the_first_iteration(
    say: Callable[..., tuple[int, str, str]], folder: Path
) -> None:
    words = ["optimizer._target_=torch.optim.Muon", "+optimizer.nestorov=true"]
    code, _, err = say(*QUIET, *words, "run_dir=a")
    assert code == 2 and "optimizer.nestorov=True: torch.optim.Muon takes no nestorov; did you mean" in err
    assert len(err.splitlines()) == 1 and list(folder.iterdir()) == []


def test_an_interrupt_ends_with_128_and_its_number(forked: Callable[..., Forked], folder: Path) -> None:
    process = forked(lambda: exit_code([*QUIET, "run_dir=a", "duration=1000000it"]))
    process.wait_for(folder / "a" / "iterations.jsonl")
    process.signal(signal.SIGTERM)
    code, said = process.ended()
    assert code == 128 + signal.SIGTERM
    assert "mbtrain resume=a" in said and "Traceback" not in said


def test_a_sweep_has_a_folder_for_each_job(forked: Callable[..., Forked], folder: Path) -> None:
    words = ["-m", "batch.size=32,64", "seed=0,1", "sweep_dir=s", *QUIET]
    code, said = forked(lambda: exit_code(words)).ended()
    assert code == 0 and "report: s/report.html" in said and (folder / "s" / "report.html").is_file(), said
    folders = sorted(file.parent.name for file in (folder / "s").glob("*/status.json"))
    assert len(folders) == 4
    for size, seed in [(32, 0), (32, 1), (64, 0), (64, 1)]:
        assert any(f"batch.size={size},duration=2it,seed={seed}," in name for name in folders)
    assert [one.name for one in folder.iterdir()] == ["s"]
