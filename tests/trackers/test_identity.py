import re

from mbtrain.trackers.identity import run_identity


def test_identity_has_the_folder_name_and_is_the_same_when_asked_again(tmp_path):
    folder = tmp_path / "2026_digits"
    folder.mkdir()
    first = run_identity(folder)
    assert first.startswith("2026_digits-")
    assert run_identity(folder) == first


def test_identity_is_at_most_64_plain_characters(tmp_path):
    folder = tmp_path / ("lr=0.1, bn #3 / é".replace("/", "%") * 6)
    folder.mkdir()
    assert re.fullmatch(r"[A-Za-z0-9_.-]{1,64}", run_identity(folder))


def test_a_moved_folder_keeps_its_identity(tmp_path):
    (tmp_path / "a").mkdir()
    first = run_identity(tmp_path / "a")
    (tmp_path / "a").rename(tmp_path / "b")
    assert run_identity(tmp_path / "b") == first


def test_a_folder_made_anew_is_another_run(tmp_path):
    (tmp_path / "a").mkdir()
    first = run_identity(tmp_path / "a")
    (tmp_path / "a").rename(tmp_path / "b")
    (tmp_path / "a").mkdir()
    assert run_identity(tmp_path / "a") != first
