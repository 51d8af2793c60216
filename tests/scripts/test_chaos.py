"""scripts/chaos.py with a few tries, and that it sees what is broken."""

import subprocess
import sys
from itertools import combinations, product
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "scripts"))

from faults.settings import FACTORS, covering, overrides, pairs  # noqa: E402

FEW = {"kills": 4, "saves": 2, "flips": 20, "truncations": 5, "disks": 0, "trackers": 0}


def chaos(tmp_path: Path, program: Path, **numbers: int) -> "subprocess.CompletedProcess[str]":
    words = [word for name, number in (FEW | numbers).items() for word in (f"--{name}", str(number))]
    return subprocess.run([sys.executable, program, "--folder", tmp_path, *words], capture_output=True, text=True)


@pytest.mark.slow
def test_few_tries_all_survive(tmp_path: Path) -> None:
    done = chaos(tmp_path, ROOT / "scripts" / "chaos.py")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "| SIGKILL, then the same command | 4 | 4 |" in done.stdout
    assert not list(tmp_path.iterdir())


BROKEN = {
    "kills": "import numpy as np\nfrom mbtrain.plan import order\n"
    "order.generator = lambda *_: np.random.default_rng()\n",
    "saves": "import time\nfrom mbtrain.training import checkpoint, sealed\n"
    "def in_place(content, path):\n    beside = path.with_name('.' + path.name + '.0.tmp')\n"
    "    path.parent.mkdir(exist_ok=True)\n    path.write_bytes(b'half')\n    beside.touch()\n    time.sleep(.3)\n"
    "    beside.unlink()\n    sealed.write_sealed(content, path)\n"
    "checkpoint.write_sealed = in_place\n",
    "flips": "from mbtrain.training import checkpoint, sealed\ncheckpoint.read_sealed = sealed.read_plain\n",
}


@pytest.mark.slow
@pytest.mark.parametrize("fault", BROKEN)
def test_mechanism_that_is_switched_off_is_seen(tmp_path: Path, fault: str) -> None:
    program = tmp_path / "broken.py"
    program.write_text(
        f"import sys\nsys.path[:0] = [{str(ROOT)!r}, {str(ROOT / 'scripts')!r}]\n{BROKEN[fault]}"
        "import chaos\nsys.exit(chaos.main())\n"
    )
    done = chaos(tmp_path, program, **{name: 0 for name in FEW if name != fault})
    assert done.returncode == 1 and "kept:" in done.stdout, done.stdout + done.stderr


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
