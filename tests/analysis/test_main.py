"""The command mbtrain-report."""

import socket
import subprocess
import sys
from pathlib import Path

import pytest

from mbtrain.analysis.__main__ import main
from tests.analysis.folders import make_run


def test_it_prints_where_the_page_is(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_run(tmp_path / "one")
    assert main([str(tmp_path / "one")]) == 0
    assert capsys.readouterr().out.strip() == str(tmp_path / "one" / "report.html")


@pytest.mark.parametrize("arguments", [[], ["nothing"], ["--live"], ["--by", "x"], ["."]])
def test_what_is_wrong_is_one_line_and_exit_code_2(
    arguments: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 2
    out, error = capsys.readouterr()
    assert out == "" and len(error.splitlines()) == 1 and error.startswith("mbtrain-report: ")
    assert list(tmp_path.iterdir()) == []


def test_a_port_in_use_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_run(tmp_path / "one")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        assert main(["--live", "--port", port, str(tmp_path / "one")]) == 2
    assert f"--port {port}: cannot be used" in capsys.readouterr().err


def test_help_and_refusals_import_nothing_heavy() -> None:
    code = "import sys; from mbtrain.analysis.__main__ import main; main(['nothing-there']); print(sorted(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "'torch'" not in done.stdout and "'matplotlib'" not in done.stdout
