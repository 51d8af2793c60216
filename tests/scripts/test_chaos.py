"""scripts/chaos.py with a few tries, and that it sees what is broken."""

import sys
import time
from collections.abc import Callable
from itertools import combinations, product
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mbtrain.plan import order
from mbtrain.training import checkpoint, sealed
from tests.forked import Forked

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "scripts"))

import chaos  # noqa: E402
from faults.settings import FACTORS, covering, overrides, pairs  # noqa: E402

FEW = {"kills": 4, "saves": 1, "flips": 10, "truncations": 3, "disks": 0, "trackers": 0}


def campaign(tmp_path: Path, numbers: dict[str, int]) -> int:
    words = [word for name, number in numbers.items() for word in (f"--{name}", str(number))]
    return chaos.main(["--folder", str(tmp_path), *words])


@pytest.mark.slow
def test_few_tries_all_survive(forked: Callable[..., Forked], tmp_path: Path) -> None:
    code, said = forked(lambda: campaign(tmp_path, FEW)).ended()
    assert code == 0, said
    assert "| SIGKILL, then the same command | 4 | 4 |" in said
    assert not list(tmp_path.iterdir())


def draw_another_order() -> None:
    order.generator = lambda *_: np.random.default_rng()


def save_in_place() -> None:
    def in_place(content: Any, path: Path) -> None:
        beside = path.with_name(f".{path.name}.0.tmp")
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"half")
        beside.touch()
        time.sleep(0.3)
        beside.unlink()
        sealed.write_sealed(content, path)

    checkpoint.write_sealed = in_place


def read_unsealed() -> None:
    checkpoint.read_sealed = sealed.read_plain


@pytest.mark.slow
@pytest.mark.parametrize(
    ("fault", "switch_off"), [("kills", draw_another_order), ("saves", save_in_place), ("flips", read_unsealed)]
)
def test_mechanism_that_is_switched_off_is_seen(
    forked: Callable[..., Forked], tmp_path: Path, fault: str, switch_off: Callable[[], None]
) -> None:
    def broken() -> int:
        switch_off()
        return campaign(tmp_path, {name: number if name == fault else 0 for name, number in FEW.items()})

    code, said = forked(broken).ended()
    assert code == 1 and "kept:" in said, said


def test_every_pair_of_options_of_two_factors_occurs_in_some_setting() -> None:
    settings = covering()
    covered = set().union(*map(pairs, settings))
    wanted = {
        ((one, i), (other, j))
        for one, other in combinations(FACTORS, 2)
        for i, j in product(range(len(FACTORS[one])), range(len(FACTORS[other])))
    }
    assert covered == wanted and len(settings) <= 16
    assert all("tracker=none" in overrides(setting) for setting in settings)
