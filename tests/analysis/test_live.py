"""The live page: on loopback only, remade as runs go on."""

import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from http.server import HTTPServer
from pathlib import Path

import pytest

from mbtrain.analysis import live
from mbtrain.analysis.live import LivePage, server
from tests.analysis.folders import make_run, row, write_rows


@pytest.fixture
def served(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HTTPServer]:
    monkeypatch.setattr(live, "RELOAD_S", 0)
    make_run(tmp_path / "one")
    with server(LivePage([tmp_path / "one"]), 0) as made:
        thread = threading.Thread(target=made.serve_forever)
        thread.start()
        yield made
        made.shutdown()
        thread.join()


def get(served: HTTPServer, path: str = "/", host: str | None = None) -> str:
    request = urllib.request.Request(f"http://127.0.0.1:{served.server_port}{path}")
    if host is not None:
        request.add_header("Host", host)
    with urllib.request.urlopen(request, timeout=10) as answer:
        return answer.read().decode()


def test_it_listens_on_loopback_only(served: HTTPServer) -> None:
    assert served.server_address[0] == "127.0.0.1"


def test_the_page_is_at_the_root(served: HTTPServer) -> None:
    assert "one reached validation loss 0.5" in get(served)


@pytest.mark.parametrize(("path", "host", "status"), [("/../config.yaml", None, 404), ("/", "evil.example", 403)])
def test_nothing_else_is_served(served: HTTPServer, path: str, host: str | None, status: int) -> None:
    with pytest.raises(urllib.error.HTTPError) as raised:
        get(served, path, host)
    assert raised.value.code == status
    raised.value.close()


def test_the_page_follows_the_run(served: HTTPServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = LivePage([tmp_path / "one"])
    monkeypatch.setattr(page, "_took_s", -1.0)
    assert b"skipped" not in page()
    write_rows(tmp_path / "one" / "iterations.jsonl", [row(i, updated=i < 45) for i in range(50)])
    monkeypatch.setattr(page, "_took_s", -1.0)
    assert b"The update was skipped in 5 of 50 iterations" in page()


def test_the_page_asks_to_be_loaded_again(tmp_path: Path) -> None:
    make_run(tmp_path / "one")
    assert b'data-reload="5"' in LivePage([tmp_path / "one"])()
