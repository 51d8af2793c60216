"""The examples in docstrings."""

import doctest
import importlib
import pkgutil
from types import ModuleType

import pytest

import mbtrain


def modules() -> list[str]:
    """Every module of the package whose source has an example."""
    found = []
    for one in pkgutil.walk_packages(mbtrain.__path__, "mbtrain."):
        spec = one.module_finder.find_spec(one.name, None)  # pyright: ignore[reportCallIssue]
        source = spec.loader.get_source(one.name) if spec and spec.loader else ""  # pyright: ignore
        if ">>> " in (source or ""):
            found.append(one.name)
    return found


@pytest.mark.parametrize("name", modules())
def test_examples_are_true(name: str) -> None:
    module: ModuleType = importlib.import_module(name)
    failed, tried = doctest.testmod(module, optionflags=doctest.ELLIPSIS)
    assert tried and not failed
