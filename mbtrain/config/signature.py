"""What a class or function takes, read from its source: so that a misspelt option is refused without torch."""

import ast
from importlib.util import find_spec
from pathlib import Path

OURS = Path(__file__).parents[1]


def arguments_of(target: str) -> list[str] | None:
    """The names of its arguments; None for what is neither ours nor an optimizer of torch's, or takes any.

    >>> arguments_of("mbtrain.plan.schedule.Cosine")
    ['warmup', 'final']
    """
    module, _, name = target.rpartition(".")
    if module == "torch.optim":
        file = _package("torch") / "optim" / f"{name.lower()}.py"
        # The first is the weights, which no config gives.
        return (arguments_in(file, name) or [])[1:] or None if file.is_file() else None
    file = OURS.joinpath(*module.split(".")[1:]).with_suffix(".py")
    return arguments_in(file, name) if target.startswith("mbtrain.") and file.is_file() else None


def lightnings() -> list[str] | None:
    """The arguments of Lightning's Trainer, without importing it."""
    return arguments_in(_package("pytorch_lightning") / "trainer" / "trainer.py", "Trainer")


def _package(name: str) -> Path:
    """The folder of an installed package, which is not imported."""
    spec = find_spec(name)
    assert spec is not None and spec.origin is not None
    return Path(spec.origin).parent


def arguments_in(file: Path, name: str) -> list[str] | None:
    """The arguments of the class or function `name` in a file; None where it takes any, or is not there."""
    made = next((one for one in ast.parse(file.read_bytes()).body if getattr(one, "name", None) == name), None)
    if isinstance(made, ast.ClassDef):
        return _of_class(made)
    return _of_function(made) if isinstance(made, ast.FunctionDef) else None


def _of_class(made: ast.ClassDef) -> list[str] | None:
    for one in made.body:
        if isinstance(one, ast.FunctionDef) and one.name == "__init__":
            names = _of_function(one)
            return names and names[1:]
    if any("dataclass" in ast.unparse(one) for one in made.decorator_list):
        return [ast.unparse(one.target) for one in made.body if isinstance(one, ast.AnnAssign)]
    return None if made.bases else []


def _of_function(made: ast.FunctionDef) -> list[str] | None:
    taken = made.args
    if taken.kwarg is not None:
        return None
    return [one.arg for one in (*taken.posonlyargs, *taken.args, *taken.kwonlyargs)]
