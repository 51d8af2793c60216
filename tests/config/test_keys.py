"""The reference of keys."""

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

from mbtrain.config.schema import KEYS

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def keys() -> ModuleType:
    """scripts/keys.py."""
    spec = importlib.util.spec_from_file_location("keys", ROOT / "scripts" / "keys.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def page(keys: ModuleType) -> str:
    """The reference as it would be written now."""
    return keys.page()


def test_the_reference_is_up_to_date(keys: ModuleType, page: str) -> None:
    assert keys.FILE.read_text() == page, "make keys writes it"


def test_every_key_is_in_the_reference(page: str) -> None:
    assert all(f"| `{key}` |" in page for key in KEYS)


def test_no_line_of_the_table_is_broken(page: str) -> None:
    rows = [line.replace("\\|", "") for line in page.splitlines() if line.startswith("|")]
    assert {line.count("|") for line in rows} == {5}
