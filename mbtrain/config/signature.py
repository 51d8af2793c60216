"""What a class or function takes, read from its source: so that a misspelt or wrong option is refused without torch."""

import ast
import functools
from importlib.util import find_spec
from pathlib import Path

from mbtrain.config.fields import FLAG, NULL, Kind, list_of, number, whole

OURS = Path(__file__).parents[1]
WHOLE, NUMBER = whole(), number()
# By the words of an annotation.
KINDS = {
    "int": WHOLE,
    "float": NUMBER,
    "bool": FLAG,
    "None": NULL,
    "Sequence[int]": list_of(WHOLE, "whole numbers"),
    "Sequence[float]": list_of(NUMBER, "numbers"),
}


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
    made = _ours(target)
    return None if made is None else _names(made)


def kind_of(target: str, name: str) -> Kind | None:
    """What an argument of a class or function of ours takes, by its annotation; None where that does not tell.

    >>> kind_of("mbtrain.models.cnn.Cnn", "channels").allowed
    'a list of whole numbers'
    """
    made = _ours(target)
    words = None if made is None else _annotations(made).get(name)
    kinds = [KINDS.get(one) for one in (words or "").split(" | ")]
    known = [one for one in kinds if one is not None]
    return functools.reduce(Kind.__or__, known) if len(known) == len(kinds) else None


def _ours(target: str) -> ast.stmt | None:
    module, _, name = target.rpartition(".")
    file = OURS.joinpath(*module.split(".")[1:]).with_suffix(".py")
    return _made_in(file, name) if target.startswith("mbtrain.") and file.is_file() else None


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
    made = _made_in(file, name)
    return None if made is None else _names(made)


@functools.cache
def _made_in(file: Path, name: str) -> ast.stmt | None:
    return next((one for one in ast.parse(file.read_bytes()).body if getattr(one, "name", None) == name), None)


def _names(made: ast.stmt) -> list[str] | None:
    """Of the arguments; None where it takes any."""
    function = _function(made)
    if function is not None:
        names = None if function.args.kwarg is not None else [one.arg for one in _arguments(function)]
        return names and names[1:] if isinstance(made, ast.ClassDef) else names
    if not isinstance(made, ast.ClassDef):
        return None
    return list(_annotations(made)) if _is_dataclass(made) else None if made.bases else []


def _annotations(made: ast.stmt) -> dict[str, str]:
    """Of the arguments that have one, by name."""
    function = _function(made)
    if function is not None:
        return {one.arg: ast.unparse(one.annotation) for one in _arguments(function) if one.annotation is not None}
    if isinstance(made, ast.ClassDef) and _is_dataclass(made):
        fields = [one for one in made.body if isinstance(one, ast.AnnAssign)]
        return {ast.unparse(one.target): ast.unparse(one.annotation) for one in fields}
    return {}


def _function(made: ast.stmt) -> ast.FunctionDef | None:
    """The function itself, or the class's __init__."""
    inner = made.body if isinstance(made, ast.ClassDef) else [made]
    wanted = "__init__" if isinstance(made, ast.ClassDef) else getattr(made, "name", "")
    return next((one for one in inner if isinstance(one, ast.FunctionDef) and one.name == wanted), None)


def _is_dataclass(made: ast.ClassDef) -> bool:
    return any("dataclass" in ast.unparse(one) for one in made.decorator_list)


def _arguments(function: ast.FunctionDef) -> list[ast.arg]:
    return [*function.args.posonlyargs, *function.args.args, *function.args.kwonlyargs]
