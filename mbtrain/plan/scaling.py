"""Scaling rules (`scaling=`): what the optimizer's values become at another batch size than they were meant for.

A rule is called with kappa = batch size / reference size and the values that a parameter group has at the reference
size (lr, betas, eps, weight_decay, …), and gives those that it changes, the same names for every kappa. Numbers count
as the decimals that they are written as: 3 times 0.1 is 0.3. A run's length, its learning-rate schedule and averaged
weights (`ema`) are counted in samples already and need no rule.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from mbtrain.plan.refused import Refused
from mbtrain.plan.words import typed

Values = Mapping[str, Any]
Rule = Callable[[Fraction, Values], Mapping[str, Any]]


class NotDefined(ValueError):
    """A rule ends below `limit`, the kappa from which on it has no meaning; `reason` is a short clause."""

    def __init__(self, limit: Fraction, reason: str) -> None:
        super().__init__(reason)
        self.limit = limit


def exact(value: float) -> Fraction:
    """The decimal that a number is written as.

    >>> float(3 * exact(0.1))
    0.3
    """
    return Fraction(str(value))


class Unscaled:
    """Nothing changes."""

    def __call__(self, kappa: Fraction, values: Values) -> dict[str, Any]:
        """The values changed: none."""
        return {}


class Linear:
    """SGD: kappa times the learning rate keeps the expected change of the weights per sample.

    Goyal et al., arXiv 1706.02677; Masters & Luschi, 1804.07612 (their per-sample rate is `reference_size` 1).
    """

    def __call__(self, kappa: Fraction, values: Values) -> dict[str, Any]:
        """The values changed.

        >>> Linear()(Fraction(8), {"lr": 0.1})
        {'lr': 0.8}
        """
        return {"lr": float(kappa * exact(values["lr"]))}


class Sqrt:
    """SGD: sqrt(kappa) times the learning rate keeps the covariance of an update, lr^2 / batch size.

    Hoffer et al., arXiv 1705.08741.
    """

    def __call__(self, kappa: Fraction, values: Values) -> dict[str, Any]:
        """The values changed.

        >>> Sqrt()(Fraction(9), {"lr": 0.1})
        {'lr': 0.3}
        """
        return {"lr": float(Fraction(math.sqrt(kappa)) * exact(values["lr"]))}


class AdamSqrt:
    """Adam: lr times sqrt(kappa), 1 - beta times kappa, eps over sqrt(kappa): the same stochastic equation in samples.

    Malladi et al., arXiv 2205.10287. A beta of 0 averages nothing and stays; for the others kappa (1 - beta) must be
    below 1, else NotDefined is raised.
    """

    def __call__(self, kappa: Fraction, values: Values) -> dict[str, Any]:
        """The values changed.

        >>> AdamSqrt()(Fraction(4), {"lr": 0.001, "betas": [0.9, 0.999], "eps": 1e-8})
        {'lr': 0.002, 'betas': [0.6, 0.996], 'eps': 5e-09}
        """
        betas, root = [exact(beta) for beta in values["betas"]], Fraction(math.sqrt(kappa))
        smallest = min((beta for beta in betas if beta > 0), default=None)
        if smallest is not None and kappa * (1 - smallest) >= 1:
            raise NotDefined(
                1 / (1 - smallest), f"1 - beta = {float(1 - smallest):g} times {float(kappa):g} is not below 1"
            )
        changed: dict[str, Any] = {"lr": float(root * exact(values["lr"]))}
        changed["betas"] = [float(1 - kappa * (1 - beta)) if beta else 0.0 for beta in betas]
        return changed | ({"eps": float(exact(values["eps"]) / root)} if "eps" in values else {})


class AdamHalfLife:
    """Adam: beta2 ^ kappa keeps the second moment's half-life in samples; beta1 and the learning rate stay.

    Marek et al., arXiv 2507.07101: good from a batch of 1 on, with a learning rate that is tuned little or not at all.
    """

    def __call__(self, kappa: Fraction, values: Values) -> dict[str, Any]:
        """The values changed.

        >>> AdamHalfLife()(Fraction(2), {"betas": [0.9, 0.5]})
        {'betas': [0.9, 0.25]}
        """
        beta1, beta2 = values["betas"]
        return {"betas": [beta1, float(beta2) ** float(kappa)]}


@dataclass(frozen=True)
class Scaling:
    """A rule, the batch size that the configured values are meant for, and what else follows the batch size.

    `reference_size` may be None where nothing does. `weight_decay`: lr * weight_decay / batch size stays, so that
    decay forgets old weights over the same number of samples (at a fixed lr kappa times the decay: arXiv 2505.13738).
    `batch_norm_momentum`: the running statistics keep their half-life in samples (arXiv 2307.13813, its rho ^ kappa).
    """

    rule: Rule
    reference_size: int | None = None
    batch_norm_momentum: bool = False
    weight_decay: bool = False

    @property
    def name(self) -> str:
        """The rule's word on the command line."""
        return typed(type(self.rule).__name__)

    @property
    def is_on(self) -> bool:
        """Whether anything follows the batch size."""
        return not isinstance(self.rule, Unscaled) or self.batch_norm_momentum or self.weight_decay

    def changed(self, values: Values, batch_size: int) -> dict[str, Any]:
        """Of a group's `values` at the reference size, what is another at `batch_size`; Refused where no rule is."""
        kappa = self._kappa(batch_size)
        changed = dict(self._by_rule(kappa, values, batch_size))
        if self.weight_decay and values.get("weight_decay") and values["lr"]:
            slowed = exact(values["lr"]) / exact(changed.get("lr", values["lr"]))
            changed["weight_decay"] = float(exact(values["weight_decay"]) * kappa * slowed)
        return changed

    def momentum(self, momentum: float, *, batch_size: int, group_size: int | None) -> float:
        """A batch-norm layer's momentum at `batch_size`, whose weight of a new group is `momentum` at the reference.

        Each BN group moves the running statistics, so what counts is how much larger the groups are: nothing where
        `group_size` (None: the whole mini-batch) is no more than both batch sizes.

        >>> Scaling(Linear(), 32, batch_norm_momentum=True).momentum(0.1, batch_size=64, group_size=None)
        0.18999999999999995
        """
        if not self.batch_norm_momentum or self.reference_size is None:
            return momentum
        now, then = (min(group_size or size, size) for size in (batch_size, self.reference_size))
        return momentum if now == then else 1 - (1 - momentum) ** (now / then)

    def _kappa(self, batch_size: int) -> Fraction:
        return Fraction(batch_size, self.reference_size or batch_size)

    def _by_rule(self, kappa: Fraction, values: Values, batch_size: int) -> Mapping[str, Any]:
        try:
            changed = self.rule(kappa, values)
        except NotDefined as error:
            assert self.reference_size is not None
            largest = math.ceil(error.limit * self.reference_size) - 1
            raise Refused(
                f"scaling={self.name}: is not defined for batch.size={batch_size} with "
                f"scaling.reference_size={self.reference_size} ({error}): batch.size={largest} is the largest"
            ) from None
        except KeyError as error:
            raise Refused(
                f"scaling={self.name}: the optimizer has no {error.args[0]}: take optimizer=adamw, or scaling=linear"
            ) from None
        for name in changed:
            if name not in values:
                raise Refused(f"scaling={self.name}: changes {name}, which the optimizer does not have")
        return changed
