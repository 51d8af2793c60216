"""Hydra makes much garbage: what is there already need not be searched each time."""

import gc

import pytest


@pytest.fixture(scope="session", autouse=True)
def _frozen() -> None:
    gc.collect()
    gc.freeze()
