"""The design of a study, from its yaml: cases, arms, seeds, the grid of learning rates, the one primary contrast."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mbtrain.config.nearest import nearest
from mbtrain.plan.refused import Refused

BUDGETS = ("time", "samples", "updates", "target")
NEEDED = ("name", "question", "scale", "budget", "arms", "reference", "margin", "overrides", "scales")
MAY_HAVE = ("target", "also", "primary", "contrasts", "rate_of", "times", "columns", "limits", "grid")
# Tuning seeds begin here, so that no final seed is among them.
FIRST_TUNING_SEED = 1000


@dataclass(frozen=True)
class Case:
    """A data set with a model, and what it is asked with.

    `lr` is the middle of the reference arm's grid; `length` and `calibrate` are samples of a run that counts and of one
    that is only timed; on the way to a target each arm has the samples of `updates` mini-batches besides; `arms` are
    those of the study that it has (empty: all); `validate_every` is in samples (None: as often as the arm with the
    fewest updates makes one).
    """

    name: str
    overrides: tuple[str, ...]
    lr: float
    length: int
    calibrate: int = 12800
    updates: int = 0
    arms: tuple[str, ...] = ()
    validate_every: int | None = None


@dataclass(frozen=True)
class Grid:
    """Learning rates around a middle, `factor` apart, widened one by one while the best is at an end.

    `refinements` halve the distance around the best, once it is inside. The middle moves with the mini-batch's size to
    the given `power`: 0.5 is the square root rule, 1 the linear one.
    """

    points: int
    factor: float
    most_extensions: int
    refinements: int = 0
    power: float = 0.0

    @property
    def stride(self) -> int:
        """How many steps lie between two points of the grid before it is refined."""
        return 2**self.refinements

    def rate(self, middle: float, step: int) -> float:
        """The learning rate of a step, as short as it can be written."""
        return float(f"{middle * self.factor ** (step / self.stride):.4g}")


@dataclass(frozen=True)
class Contrast:
    """One arm against another."""

    arm: str
    against: str


@dataclass(frozen=True)
class Target:
    """A score to be reached, such as val/loss<=0.4."""

    key: str
    below: float

    def __str__(self) -> str:
        return f"{self.key}<={self.below:g}"


@dataclass(frozen=True)
class Design:
    """All that a study is before it begins; arms are overrides by name.

    `budget` says what is equal between arms, or that each runs to the `target`; `also` are further budgets at which the
    arms are compared. An arm in `rate_of` is not tuned: it takes the learning rate that was tuned for another. One in
    `times` has so many times the samples of the others.
    `columns` are shown beside the loss, `limits` under it.
    """

    name: str
    question: str
    scale: str
    budget: str
    also: tuple[str, ...]
    target: Target | None
    arms: Mapping[str, tuple[str, ...]]
    reference: str
    primary: Contrast | None
    contrasts: tuple[Contrast, ...]
    rate_of: Mapping[str, str]
    times: Mapping[str, float]
    margin: float
    columns: tuple[str, ...]
    limits: tuple[str, ...]
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

    @property
    def is_timed(self) -> bool:
        """Whether it needs to know how long an update takes."""
        return self.budget in ("time", "target")

    def arms_of(self, case: Case) -> tuple[str, ...]:
        """The arms that a case has."""
        return case.arms or tuple(self.arms)


def design_of(node: Mapping[str, Any]) -> Design:
    """The design that `study=` and its keys name; raises Refused."""
    _refuse_keys(node)
    scale = _scale(node)
    arms = {name: tuple(overrides) for name, overrides in node["arms"].items()}
    budget = _among(node["budget"], BUDGETS, "budget")
    if budget in ("time", "updates"):
        _refuse_schedules(node["overrides"], arms)
    given = {"points": 5, "factor": 2.0, "most_extensions": 4}
    return Design(
        name=node["name"],
        question=node["question"],
        scale=node["scale"],
        budget=budget,
        also=tuple(_among(one, BUDGETS[:3], "also") for one in node.get("also", ())),
        target=_target(scale.get("target", node.get("target")), budget),
        arms=arms,
        reference=_among(node["reference"], arms, "reference"),
        primary=_contrast(node.get("primary"), arms, "primary"),
        contrasts=tuple(filter(None, (_contrast(one, arms, "contrasts") for one in node.get("contrasts", ())))),
        rate_of={
            _among(one, arms, "rate_of"): _among(other, arms, f"rate_of.{one}")
            for one, other in node.get("rate_of", {}).items()
        },
        times={
            _among(arm, arms, "times"): _above(factor, 0, f"times.{arm}")
            for arm, factor in node.get("times", {}).items()
        },
        margin=_above(node["margin"], 0, "margin"),
        columns=tuple(node.get("columns", ())),
        limits=tuple(node.get("limits", ())),
        overrides=tuple(node["overrides"]),
        grid=Grid(**(given | node.get("grid", {}))),
        cases=tuple(_case(name, case, arms) for name, case in scale["cases"].items()),
        num_tuning_seeds=_above(scale["num_tuning_seeds"], 0, f"scales.{node['scale']}.num_tuning_seeds"),
        num_seeds=_above(scale["num_seeds"], 1, f"scales.{node['scale']}.num_seeds"),
    )


def _refuse_keys(node: Mapping[str, Any]) -> None:
    for key in node:
        if key not in (*NEEDED, *MAY_HAVE):
            raise Refused(f"study.{key}: no such key of a study{nearest(key, [*NEEDED, *MAY_HAVE])}")
    missing = [key for key in NEEDED if key not in node]
    if missing:
        raise Refused(f"study.{missing[0]}: a study needs it, and {node.get('name', 'this one')} has none")


def _scale(node: Mapping[str, Any]) -> Mapping[str, Any]:
    scales = node["scales"]
    if node["scale"] not in scales:
        hint = nearest(str(node["scale"]), list(scales))
        raise Refused(f"study.scale={node['scale']}: no such scale{hint}; choose from {', '.join(scales)}")
    return scales[node["scale"]]


def _case(name: str, node: Mapping[str, Any], arms: Mapping[str, Any]) -> Case:
    own = tuple(_among(one, arms, f"cases.{name}.arms") for one in node.get("arms", ()))
    return Case(name, **{**node, "overrides": tuple(node["overrides"]), "arms": own})


def _contrast(node: Mapping[str, str] | None, arms: Mapping[str, Any], key: str) -> Contrast | None:
    if node is None:
        return None
    return Contrast(
        _among(node["arm"], arms, f"{key}.arm", "arm"), _among(node["against"], arms, f"{key}.against", "arm")
    )


def _target(text: Any, budget: str) -> Target | None:
    if budget != "target":
        return None
    key, sign, below = str(text).partition("<=")
    if not sign or not key.startswith("val/"):
        raise Refused(f"study.target={text}: must read like val/loss<=0.4")
    try:
        return Target(key.strip(), float(below))
    except ValueError:
        raise Refused(f"study.target={text}: {below.strip()} is no number") from None


def _refuse_schedules(overrides: Sequence[str], arms: Mapping[str, Sequence[str]]) -> None:
    """Equal time and equal updates are counted by the size of the mini-batch."""
    for override in (*overrides, *(one for arm in arms.values() for one in arm)):
        if override.startswith("batch_schedule=") and override != "batch_schedule=constant":
            raise Refused(
                f"study: {override}: arms are given one time by the size of their mini-batch, which must stay: "
                "set study.budget=samples"
            )


def _among(value: Any, choices: Sequence[str] | Mapping[str, Any], key: str, noun: str = "") -> Any:
    if value not in choices:
        what = noun or ("arm" if isinstance(choices, Mapping) else "budget")
        raise Refused(f"study.{key}={value}: no such {what}; choose from {', '.join(choices)}")
    return value


def _above(value: Any, bound: float, key: str) -> Any:
    if isinstance(value, bool) or not isinstance(value, int | float) or not value > bound:
        raise Refused(f"study.{key}={value}: must be a number above {bound}")
    return value
