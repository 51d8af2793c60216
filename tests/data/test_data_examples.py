import doctest
from importlib import import_module

import pytest

NAMES = ["augment", "holdout", "normalize", "splits"]


@pytest.mark.parametrize("name", NAMES)
def test_the_examples_in_the_docstrings_are_true(name):
    result = doctest.testmod(import_module(f"mbtrain.data.{name}"))
    assert result.attempted > 0
    assert result.failed == 0
