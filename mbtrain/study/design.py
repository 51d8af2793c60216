"""The design of a study, from its yaml: cases, arms, seeds, the grid of learning rates, the one primary contrast."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mbtrain.config.nearest import nearest
from mbtrain.plan.refused import Refused

BUDGETS = ("samples", "updates", "time")
# Tuning seeds begin here, so that no final seed is among them.
FIRST_TUNING_SEED = 1000


@dataclass(frozen=True)
class Case:
    """A data set with a model: the overrides, the middle of the grid, how long the reference arm runs, in samples."""

    name: str
    overrides: tuple[str, ...]
    lr: float
    length: int
    calibrate: int


@dataclass(frozen=True)
class Grid:
    """Learning rates lr * factor ** k for k around 0, widened one by one while the best is at an end."""

    points: int
    factor: float
    most_extensions: int

    def rate(self, case: Case, k: int) -> float:
        """The learning rate of step k, as short as it can be written."""
        return float(f"{case.lr * self.factor**k:.4g}")


@dataclass(frozen=True)
class Contrast:
    """One arm against another under a budget: samples, updates or time."""

    arm: str
    against: str
    budget: str


@dataclass(frozen=True)
class Design:
    """All that a study is before it begins; arms are overrides by name."""

    name: str
    question: str
    scale: str
    arms: Mapping[str, tuple[str, ...]]
    reference: str
    primary: Contrast
    margin: float
    overrides: tuple[str, ...]
    grid: Grid
    cases: tuple[Case, ...]
    num_tuning_seeds: int
    num_seeds: int

    @property
    def seeds(self) -> range:
        """The seeds of the runs that answer."""
        return range(self.num_seeds)

    @property
    def tuning_seeds(self) -> range:
        """The seeds of the runs that choose learning rates."""
        return range(FIRST_TUNING_SEED, FIRST_TUNING_SEED + self.num_tuning_seeds)

    def batch_size(self, arm: str) -> int:
        """The mini-batch of an arm."""
        return int(_given(self.arms[arm], "batch.size", f"study.arms.{arm}"))


def design_of(node: Mapping[str, Any]) -> Design:
    """The design that `study=` and its keys name; raises Refused."""
    scales = node["scales"]
    if node["scale"] not in scales:
        hint = nearest(str(node["scale"]), list(scales))
        raise Refused(f"study.scale={node['scale']}: no such scale{hint}; choose from {', '.join(scales)}")
    scale = scales[node["scale"]]
    arms = {name: tuple(overrides) for name, overrides in node["arms"].items()}
    for override in (*node["overrides"], *(one for arm in arms.values() for one in arm)):
        if override.startswith("batch_schedule=") and override != "batch_schedule=constant":
            raise Refused(
                f"study: {override}: arms are given one time by the size of their mini-batch, which must stay"
            )
    primary = Contrast(**node["primary"])
    for key, arm in (
        ("reference", node["reference"]),
        ("primary.arm", primary.arm),
        ("primary.against", primary.against),
    ):
        if arm not in arms:
            raise Refused(f"study.{key}={arm}: no such arm; choose from {', '.join(arms)}")
    if primary.budget not in BUDGETS:
        raise Refused(f"study.primary.budget={primary.budget}: choose from {', '.join(BUDGETS)}")
    cases = tuple(
        Case(name, **(case | {"overrides": tuple(case["overrides"])})) for name, case in scale["cases"].items()
    )
    return Design(
        name=node["name"],
        question=node["question"],
        scale=node["scale"],
        arms=arms,
        reference=node["reference"],
        primary=primary,
        margin=_above(node["margin"], 0, "margin"),
        overrides=tuple(node["overrides"]),
        grid=Grid(**node["grid"]),
        cases=cases,
        num_tuning_seeds=_above(scale["num_tuning_seeds"], 0, f"scales.{node['scale']}.num_tuning_seeds"),
        num_seeds=_above(scale["num_seeds"], 1, f"scales.{node['scale']}.num_seeds"),
    )


def _above(value: Any, bound: float, key: str) -> Any:
    if isinstance(value, bool) or not isinstance(value, int | float) or not value > bound:
        raise Refused(f"study.{key}={value}: must be a number above {bound}")
    return value


def _given(overrides: Sequence[str], key: str, where: str) -> str:
    for override in overrides:
        if override.startswith(f"{key}="):
            return override.partition("=")[2]
    raise Refused(f"{where}: names no {key}")
