"""A data set's files: found under `data_root`, else downloaded, verified by SHA256."""

from __future__ import annotations

import hashlib
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mbtrain.plan.refused import Refused

# A broken transfer or wrong bytes are tried again this often, at every address, after a pause.
NUM_ROUNDS = 3
PAUSE_S = 1.0
# To connect, and between two pieces of a transfer.
TIMEOUT_S = (5.0, 30.0)


@dataclass(frozen=True)
class Remote:
    """A file as its publisher gives it: the name at each address, and the SHA256 of its bytes."""

    name: str
    sha256: str


@dataclass(frozen=True)
class Found:
    """Where the files are, by the name that was asked for, and what the user should know of them."""

    paths: dict[str, Path]
    notes: tuple[str, ...]


def find_files(name: str, wanted: list[Remote], *, data_root: Path, addresses: tuple[str, ...]) -> Found:
    """Find each file of the data set `name`, zipped or not, or download it into `data_root/name`; raises Refused.

    Looked for in `data_root/name`, the same with hyphens, and `data_root` itself. A file that lies there and is not the
    official one is used all the same, and a note says so; directly in `data_root`, where files of another data set may
    bear the same name, only the official one counts.
    """
    found = {remote: _find(remote, name, data_root) for remote in wanted}
    folder = data_root / name
    missing = [remote for remote, path in found.items() if path is None]
    for number, remote in enumerate(missing):
        _download(remote, folder, addresses, still_missing=missing[number:])
    notes = [
        f"{path} is not the official file (SHA256 {remote.sha256[:12]}...) and is used as it is"
        for remote, path in found.items()
        if path is not None and path.name == remote.name and _sha256(path) != remote.sha256
    ]
    return Found({remote.name: path or folder / remote.name for remote, path in found.items()}, tuple(notes))


def _find(remote: Remote, name: str, data_root: Path) -> Path | None:
    for folder in (data_root / name, data_root / name.replace("_", "-")):
        for path in (folder / remote.name, folder / remote.name.removesuffix(".gz")):
            if path.is_file():
                return path
    path = data_root / remote.name
    return path if path.is_file() and _sha256(path) == remote.sha256 else None


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _download(remote: Remote, folder: Path, addresses: tuple[str, ...], *, still_missing: list[Remote]) -> None:
    """Fetch one file from the first address that gives the right bytes.

    An address that cannot be reached or has no such file is asked once; anything else that goes wrong is tried again.
    """
    import requests

    reasons: dict[str, str] = {}
    hopeful = list(addresses)
    for round_number in range(NUM_ROUNDS):
        if round_number > 0 and hopeful:
            time.sleep(PAUSE_S)
        for address in tuple(hopeful):
            try:
                return _transfer(remote, folder, address)
            except (requests.RequestException, ValueError) as error:
                reasons[address] = _reason(error)
                if _is_final(error):
                    hopeful.remove(address)
            except OSError as error:
                raise Refused(f"data_root: {folder} cannot be written ({error}): set data_root=PATH") from None
    _remove_empty(folder)
    names = ", ".join(file.name for file in still_missing)
    tried = "; ".join(f"{address} ({reason})" for address, reason in reasons.items())
    raise Refused(
        f"data_root: {folder} lacks {names}, and no address gave {remote.name}: {tried}: put them there by hand"
    )


def _remove_empty(folder: Path) -> None:
    """Take away the folders that were made for a file that did not come."""
    for one in (folder, *folder.parents):
        try:
            one.rmdir()
        except OSError:
            return


def _transfer(remote: Remote, folder: Path, address: str) -> None:
    """One attempt; pooch writes beside the target and renames once the SHA256 is right."""
    import pooch
    from tqdm import tqdm

    # disable=None: a bar on a terminal only. Any: pooch's annotations know neither its own bars nor its downloaders.
    bar: Any = tqdm(total=0, desc=remote.name, unit="B", unit_scale=True, disable=None)
    with bar:
        downloader: Any = pooch.HTTPDownloader(progressbar=bar, chunk_size=1 << 16, timeout=TIMEOUT_S)
        pooch.retrieve(address + remote.name, f"sha256:{remote.sha256}", remote.name, folder, downloader=downloader)


def _is_final(error: Exception) -> bool:
    """Whether another try is pointless: no connection could be made, or the server says that it has no such file."""
    import requests
    import urllib3

    if isinstance(error, requests.HTTPError) and error.response is not None:
        return error.response.status_code < 500
    # MaxRetryError: the connection was never made; one that broke later is another error.
    causes = error.args if isinstance(error, requests.ConnectionError) else ()
    return any(isinstance(cause, urllib3.exceptions.MaxRetryError) for cause in causes)


def _reason(error: Exception) -> str:
    """What went wrong, in a few words: the libraries' texts hold object addresses and whole URLs."""
    import requests

    if isinstance(error, requests.HTTPError) and error.response is not None:
        return f"HTTP {error.response.status_code}"
    if isinstance(error, requests.RequestException):
        return "no connection" if _is_final(error) else f"the transfer broke, {type(error).__name__}"
    return "its bytes have another SHA256"
