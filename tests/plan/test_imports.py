"""What the plan needs to be imported."""

import subprocess
import sys

SCRIPT = """
import importlib, pkgutil, sys
import mbtrain.plan
for module in pkgutil.iter_modules(mbtrain.plan.__path__, "mbtrain.plan."):
    importlib.import_module(module.name)
print(*({"torch", "hydra", "omegaconf", "pytorch_lightning", "yaml"} & set(sys.modules)))
"""


def test_the_plan_needs_numpy_at_most() -> None:
    assert subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True).stdout == "\n"
