"""Small official-looking files, a loopback server that misbehaves on request, and the real data where they are."""

import gzip
import os
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
import torch

CPU = torch.device("cpu")
IDX_NAMES = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")


def idx_bytes(array: np.ndarray) -> bytes:
    shape = b"".join(size.to_bytes(4, "big") for size in array.shape)
    return bytes((0, 0, 8, array.ndim)) + shape + array.astype(np.uint8).tobytes()


def idx_contents() -> dict[str, bytes]:
    """The four files of a data set of 20 + 10 images, unzipped."""
    random = np.random.default_rng(0)
    parts = {"train": 20, "t10k": 10}
    arrays = [
        array for size in parts.values() for array in (random.integers(0, 256, (size, 28, 28)), np.arange(size) % 10)
    ]
    return {name: idx_bytes(array) for name, array in zip(IDX_NAMES, arrays, strict=True)}


@pytest.fixture
def idx_folder(tmp_path: Path) -> Path:
    """`tmp_path/mnist` with four zipped files; `tmp_path` is the data_root."""
    folder = tmp_path / "mnist"
    folder.mkdir()
    for name, content in idx_contents().items():
        (folder / f"{name}.gz").write_bytes(gzip.compress(content))
    return folder


@pytest.fixture
def real_data() -> Path:
    """The folder of real data sets, or a skip."""
    root = Path(os.environ.get("MBTRAIN_DATA", Path(__file__).parents[3] / "shared" / "data"))
    if not (root / "fashion-mnist").is_dir():
        pytest.skip(f"no fashion-mnist in {root}: set MBTRAIN_DATA")
    return root


class Server:
    """Serves `content` under every name; `faults` are used up one a request, then it behaves."""

    def __init__(self, content: bytes, faults: list[str]) -> None:
        self.content, self.faults, self.requests = content, list(faults), []
        self.http = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self.address = f"http://127.0.0.1:{self.http.server_port}/"
        self.thread = threading.Thread(target=self.http.serve_forever, kwargs={"poll_interval": 0.01})
        self.thread.start()

    def stop(self) -> None:
        self.http.shutdown()
        self.thread.join()
        self.http.server_close()

    def _handler(server) -> type[BaseHTTPRequestHandler]:
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                server.requests.append(self.path)
                fault = server.faults.pop(0) if server.faults else "none"
                if fault.isdigit():
                    self.send_error(int(fault))
                    return
                self.send_response(200)
                self.send_header("Content-Length", str(len(server.content)))
                self.end_headers()
                content = bytes(len(server.content)) if fault == "wrong" else server.content
                self.wfile.write(content[: len(content) // 2] if fault == "broken" else content)

            def log_message(self, format: str, *args: object) -> None:
                pass

        return Handler


@pytest.fixture
def serve(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Server]]:
    """`serve(content, faults)` starts a server on the loopback device."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr("mbtrain.data.files.PAUSE_S", 0.0)
    servers: list[Server] = []

    def start(content: bytes, faults: list[str] | None = None) -> Server:
        servers.append(Server(content, faults or []))
        return servers[-1]

    yield start
    for server in servers:
        server.stop()
