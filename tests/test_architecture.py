"""The house: imports point down, heavy packages stand where they belong (DESIGN: the house)."""

import ast
from functools import cache
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "mbtrain"
# What a layer may import of ours besides itself. Every module of the package is listed; a new one needs a place here.
BLOCKS = {"data", "models", "losses", "norm", "optim", "probes", "core", "plan"}
MAY_IMPORT = {
    "plan": set(),
    "core": {"plan"},
    "log": {"plan"},
    "models": {"core", "plan"},
    "losses": {"core", "plan"},
    "norm": {"core", "plan"},
    "optim": {"core", "plan"},
    "probes": {"core", "plan", "optim", "norm"},
    "data": {"core", "plan"},
    "config": {"plan"},
    "analysis": {"log", "plan"},
    "trackers": {"log", "plan"},
    "trackers.__main__": {"log", "plan", "trackers", "config"},  # an entry point: it builds what the config names
    "training": BLOCKS | {"log"},
    "run_folder": {"config", "log", "plan"},
    "side_process": {"plan", "trackers"},
    "planning": {"config", "core", "data", "plan"},
    "observers": {"compatibility", "config", "data", "plan", "probes"},
    "compatibility": {"data", "losses", "plan", "training"},
    "assembly": BLOCKS
    | {"compatibility", "observers", "planning", "config", "cutting", "training", "first_weights", "normalisation"},
    "first_weights": {"data", "finished_run", "plan", "training"},
    "normalisation": BLOCKS | {"compatibility"},
    "cutting": {"plan"},
    "micro_size": BLOCKS | {"assembly", "cutting", "training"},
    "thread_count": {"assembly", "log", "micro_size", "plan", "training"},
    "outcome": BLOCKS | {"assembly", "log", "training"},
    "finished_run": {"assembly", "data", "norm", "plan", "run_folder", "training"},
    "attempt": BLOCKS | {"planning", "assembly", "finished_run", "log", "outcome", "run_folder", "training"},
    "one_run": BLOCKS | {"assembly", "attempt", "log", "micro_size", "run_folder", "thread_count", "training"},
    "timed_run": BLOCKS | {"assembly", "attempt", "log", "run_folder", "training"},
    "launch": {"one_run", "plan", "run_folder", "side_process", "trackers", "training", "assembly", "data"},
    "study": {"analysis", "assembly", "config", "data", "log", "one_run", "plan"}
    | {"run_folder", "side_process", "timed_run", "trackers", "training"},
    "__init__": {"config", "finished_run", "launch", "one_run", "plan"},
    "terminal": set(),
    "__main__": {"config", "launch", "plan", "study", "terminal"},
}
HEAVY = {
    "torch": BLOCKS - {"plan"}
    | {"training", "assembly", "compatibility", "observers", "normalisation", "outcome", "finished_run", "thread_count"}
    | {"__init__", "study", "trackers", "first_weights"},
    "pytorch_lightning": {"training", "assembly", "observers", "attempt", "outcome"},
    "hydra": {"__main__", "config", "study"},
    "omegaconf": {"__main__", "config", "study"},
    "scipy": {"analysis"},
    "wandb": {"trackers"},
    "jinja2": {"analysis"},
    "matplotlib": {"analysis"},
}


def modules() -> list[Path]:
    return sorted(PACKAGE.rglob("*.py"))


def layer(path: Path) -> str:
    relative = path.relative_to(PACKAGE).with_suffix("")
    if ".".join(relative.parts) in MAY_IMPORT:
        return ".".join(relative.parts)
    return relative.parts[0]


@cache
def imports(path: Path) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: a relative import"
            found.add(f"{node.module}")
    return found


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_point_down(path: Path) -> None:
    own = layer(path)
    ours = {name.split(".")[1] for name in imports(path) if name.startswith("mbtrain.")}
    assert ours - {own.split(".")[0]} <= MAY_IMPORT[own]


@pytest.mark.parametrize("package", HEAVY)
def test_heavy_packages_stand_where_they_belong(package: str) -> None:
    users = {layer(path).split(".")[0] for path in modules() if any(n.split(".")[0] == package for n in imports(path))}
    assert users <= HEAVY[package]


def test_only_one_file_knows_wandb() -> None:
    users = [path.name for path in modules() if any(name.split(".")[0] == "wandb" for name in imports(path))]
    assert users == ["wandb.py"]


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_file_is_a_noun_that_fits(path: Path) -> None:
    tree = ast.parse(path.read_text())
    assert path.stem not in {"utils", "util", "helpers", "common", "misc", "base"}
    assert ast.get_docstring(tree), "no docstring that says what the file is"
    assert path.read_text().count("\n") <= 350
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef):
            assert (node.end_lineno or 0) - node.lineno < 50, f"{node.name} is longer than 50 lines"
