"""What a kill of the compiler leaves in the cache is removed, and compiled again."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from mbtrain.training.compile_cache import cache_folder, is_mended
from tests.conftest import QUIET


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of the test's own."""
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "cache"))
    (tmp_path / "cache" / "ab").mkdir(parents=True)
    return tmp_path / "cache"


def test_the_cache_is_the_user_s_unless_it_was_chosen(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", "elsewhere")
    assert cache_folder() == "elsewhere"
    monkeypatch.delenv("TORCHINDUCTOR_CACHE_DIR")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder() == str(tmp_path / "mbtrain" / "compiled") == os.environ["TORCHINDUCTOR_CACHE_DIR"]


def test_a_library_of_the_cache_that_cannot_be_loaded_is_removed_and_no_other(cache: Path, tmp_path: Path) -> None:
    broken, other = cache / "ab" / "main.so", tmp_path / "other.so"
    for path in (broken, other):
        path.touch()
    error = RuntimeError("the backend failed")
    error.__cause__ = ImportError(f"{broken}: file too short")
    assert is_mended(error) and not broken.exists()
    # Now it is gone, and something else must be wrong.
    assert not is_mended(error)
    assert not is_mended(ImportError(f"{other}: file too short")) and other.exists()
    assert not is_mended(RuntimeError(f"{other}"))


@pytest.mark.slow
@pytest.mark.skipif(shutil.which(os.environ.get("CXX", "g++")) is None, reason="no C++ compiler")
def test_a_run_compiles_again_what_a_kill_left_unfinished(cache: Path, tmp_path: Path) -> None:
    hashes = []
    for name in ("first", "second"):
        own = ["trainer.engine=compiled", "duration=3it", f"run_dir={tmp_path / name}"]
        subprocess.run([sys.executable, "-m", "mbtrain", *QUIET, *own], check=True, capture_output=True)
        hashes.append((tmp_path / name / "result.json").read_text().partition("weights_sha256")[2][:80])
        libraries = list(cache.rglob("*.main.so"))
        assert len(libraries) > 1 and all(one.stat().st_size for one in libraries)
        for one in libraries:
            one.write_bytes(b"")
    assert hashes[0] == hashes[1] != ""
