"""The page on loopback, remade while runs go on: `mbtrain-report --live FOLDER`."""

import time
from collections.abc import Callable, Sequence
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

from mbtrain.analysis.curves import Logs
from mbtrain.analysis.experiment import experiment
from mbtrain.analysis.page import html
from mbtrain.analysis.report import make_page
from mbtrain.analysis.runs import find
from mbtrain.analysis.score import chosen
from mbtrain.plan.refused import Refused

HOST = "127.0.0.1"
RELOAD_S = 5


class LivePage:
    """Makes the page when it is asked for, at most every few seconds; logs are read on from where they were."""

    def __init__(self, folders: Sequence[Path], *, by: str | None = None) -> None:
        self._folders, self._by, self._logs = folders, by, Logs()
        self._page, self._made_at, self._took_s = b"", -float("inf"), 0.0

    def __call__(self) -> bytes:
        """The page in UTF-8; making it never takes more than half of the time."""
        started = time.monotonic()
        if started - self._made_at >= max(RELOAD_S / 2, self._took_s):
            found = find(self._folders)
            whole = experiment(found, chosen(self._by, found.runs))
            self._page = html(make_page(found, whole, self._logs, reload_s=RELOAD_S)).encode(errors="replace")
            self._made_at = time.monotonic()
            self._took_s = self._made_at - started
        return self._page


def server(page: Callable[[], bytes], port: int) -> HTTPServer:
    """A server of one page on this machine only; port 0 takes any free one.

    A request under another host's name is turned away, so that no web page can read the report by rebinding its name.
    """

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.headers.get("Host", "").partition(":")[0] not in (HOST, "localhost"):
                self._answer(403, b"this page is for this machine only")
            elif self.path != "/":
                self._answer(404, b"the report is at /")
            else:
                self._answer(200, page())

        def _answer(self, status: int, body: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Type", "text/html; charset=utf-8" if status == 200 else "text/plain")
            self.send_header("Content-Length", str(len(body)))
            self.send_header("Cache-Control", "no-store")
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            pass

    try:
        return HTTPServer((HOST, port), Handler)
    except OSError as error:
        raise Refused(f"--port {port}: cannot be used ({error.strerror}): give another") from None
