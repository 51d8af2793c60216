import inspect
from importlib import import_module
from pathlib import Path

import pytest
import yaml

FILES = sorted((Path(__file__).parents[2] / "conf" / "dataset").glob("*.yaml"))
# Given to every data set by the primary config, and what is given to a signature that asks.
COMMON = {"val_fraction", "test_fraction", "split_seed", "augment", "workers", "normalize"}
GIVEN = {"data_root"}


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_a_data_sets_file_opens_with_what_it_is(file):
    assert file.read_text().startswith("# ")


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_a_data_sets_file_gives_every_option_of_its_target_and_no_other(file):
    options = yaml.safe_load(file.read_text())
    module, _, name = options.pop("_target_").rpartition(".")
    parameters = inspect.signature(getattr(import_module(module), name)).parameters
    assert options.keys() - COMMON == parameters.keys() - GIVEN
