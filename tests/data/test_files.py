import hashlib
import socket
from pathlib import Path

import pytest

from mbtrain.data.files import NUM_ROUNDS, Remote, find_files
from mbtrain.plan.refused import Refused

CONTENT = bytes(range(256)) * 1000
FILE = Remote("data.gz", hashlib.sha256(CONTENT).hexdigest())


def find(root, *servers):
    return find_files("my_set", [FILE], data_root=root, addresses=tuple(server.address for server in servers))


@pytest.fixture
def dead_address():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{free.getsockname()[1]}/"


def test_a_missing_file_is_downloaded_into_the_folder_of_the_data_set(tmp_path, serve):
    found = find(tmp_path, serve(CONTENT))
    assert found.paths == {"data.gz": tmp_path / "my_set" / "data.gz"}
    assert (tmp_path / "my_set" / "data.gz").read_bytes() == CONTENT


def test_a_downloaded_file_is_not_asked_for_again(tmp_path, serve):
    server = serve(CONTENT)
    find(tmp_path, server)
    find(tmp_path, server)
    assert server.requests == ["/data.gz"]


@pytest.mark.parametrize("fault", ["broken", "wrong", "503"])
def test_a_transfer_that_fails_is_repeated(tmp_path, serve, fault):
    server = serve(CONTENT, [fault])
    path = find(tmp_path, server).paths["data.gz"]
    assert path.read_bytes() == CONTENT
    assert len(server.requests) == 2


def test_the_next_address_is_asked_when_one_has_no_such_file(tmp_path, serve):
    first, second = serve(CONTENT, ["404"] * 9), serve(CONTENT)
    assert find(tmp_path, first, second).paths["data.gz"].read_bytes() == CONTENT
    assert len(first.requests) == 1


def test_an_address_without_such_a_file_is_asked_once(tmp_path, serve):
    server = serve(CONTENT, ["404"] * 9)
    with pytest.raises(Refused, match="HTTP 404"):
        find(tmp_path, server)
    assert len(server.requests) == 1


def test_wrong_bytes_are_refused_and_leave_no_file(tmp_path, serve):
    server = serve(CONTENT, ["wrong"] * 9)
    with pytest.raises(Refused, match="another SHA256"):
        find(tmp_path, server)
    assert len(server.requests) == NUM_ROUNDS
    assert not (tmp_path / "my_set").exists()


def test_a_broken_transfer_leaves_no_file(tmp_path, serve):
    with pytest.raises(Refused, match="the transfer broke"):
        find(tmp_path, serve(CONTENT, ["broken"] * 9))
    assert not (tmp_path / "my_set").exists()


def test_without_a_network_the_error_names_files_folder_and_addresses_in_one_line(tmp_path, monkeypatch, dead_address):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    wanted = [Remote("a.gz", "0" * 64), Remote("b.gz", "0" * 64)]
    with pytest.raises(Refused) as refused:
        find_files("my_set", wanted, data_root=tmp_path, addresses=(dead_address,))
    message = str(refused.value)
    for part in ("a.gz", "b.gz", str(tmp_path / "my_set"), dead_address, "no connection"):
        assert part in message
    assert "\n" not in message


def test_a_folder_that_cannot_be_written_is_refused(tmp_path, serve):
    (tmp_path / "my_set").write_text("a file where the folder should be")
    with pytest.raises(Refused, match="cannot be written"):
        find(tmp_path, serve(CONTENT))


@pytest.mark.parametrize("place", ["my_set/data.gz", "my-set/data.gz", "data.gz", "my_set/data", "my-set/data"])
def test_a_file_that_is_there_is_found(tmp_path, place):
    path = tmp_path / place
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(CONTENT)
    found = find(tmp_path)
    assert found.paths == {"data.gz": path}
    assert found.notes == ()


def test_a_file_that_is_not_the_official_one_is_used_and_noted(tmp_path):
    (tmp_path / "my_set").mkdir()
    (tmp_path / "my_set" / "data.gz").write_bytes(b"mine")
    (note,) = find(tmp_path).notes
    assert "not the official file" in note


def test_directly_in_the_root_another_sets_file_of_that_name_does_not_count(tmp_path, serve):
    (tmp_path / "data.gz").write_bytes(b"of another data set")
    assert find(tmp_path, serve(CONTENT)).paths["data.gz"] == tmp_path / "my_set" / "data.gz"


def test_folder_made_for_a_file_that_did_not_come_is_taken_away(tmp_path: Path) -> None:
    from mbtrain.data.files import _remove_empty

    (tmp_path / "kept").write_text("")
    (tmp_path / "a" / "b").mkdir(parents=True)
    _remove_empty(tmp_path / "a" / "b")
    assert [one.name for one in tmp_path.iterdir()] == ["kept"]
