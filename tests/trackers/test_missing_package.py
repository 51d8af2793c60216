import importlib.util
import sys

import pytest

from mbtrain import trackers
from mbtrain.trackers import missing


@pytest.mark.parametrize("name", ["csv", "my_own"])
def test_a_tracker_that_needs_no_package_misses_none(name):
    assert missing(name) is None


def test_a_package_that_is_there_is_not_missing(monkeypatch):
    monkeypatch.setitem(trackers.PACKAGES, "json", "pip install json")
    assert missing("json") is None


def test_a_missing_package_is_one_line_with_the_install_command(monkeypatch):
    monkeypatch.setattr(trackers, "find_spec", lambda name: None)
    line = missing("tensorboard") or ""
    assert line.endswith("pip install 'mbtrain[tensorboard]'")
    assert "\n" not in line


def test_a_folder_of_that_name_is_not_the_package(monkeypatch, tmp_path):
    (tmp_path / "left_behind").mkdir()
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(trackers.PACKAGES, "left_behind", "pip install left_behind")
    assert importlib.util.find_spec("left_behind") is not None
    assert missing("left_behind") is not None


def test_asking_imports_nothing():
    before = set(sys.modules)
    missing("trackio")
    assert "trackio" not in set(sys.modules) - before
