"""What a class or function takes, read from its source: so that a misspelt option is refused without torch."""

import ast
from importlib.util import find_spec
from pathlib import Path

OURS = Path(__file__).parents[1]


def arguments_of(target: str) -> list[str] | None:
    """The names of its arguments; None for what is not ours, or takes any.

    >>> arguments_of("mbtrain.plan.schedule.Cosine")
    ['warmup', 'final']
    """
    module, _, name = target.rpartition(".")
    file = OURS.joinpath(*module.split(".")[1:]).with_suffix(".py")
    return arguments_in(file, name) if target.startswith("mbtrain.") and file.is_file() else None


def lightnings() -> list[str] | None:
    """The arguments of Lightning's Trainer, without importing it."""
    spec = find_spec("pytorch_lightning")
    assert spec is not None and spec.origin is not None
    return arguments_in(Path(spec.origin).parent / "trainer" / "trainer.py", "Trainer")


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
