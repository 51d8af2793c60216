"""Validation: the loss and scores of a whole set, the best so far, and when to stop for them."""

import operator
import re
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, ExitStack, nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from mbtrain.losses.contract import Loss, losses_of
from mbtrain.plan.refused import Refused
from mbtrain.plan.score import is_better
from mbtrain.training.metrics import Scores

_COMPARE = {"<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge}


class Evaluation:
    """Sums over the batches of a set, so that the result does not depend on how it was cut."""

    def __init__(self, scores: Scores) -> None:
        self._scores = scores
        self._loss: Tensor | None = None
        self._sums: Tensor | None = None

    def begin(self) -> None:
        """Start from zero."""
        self._loss = self._sums = None

    def add(self, model: nn.Module, loss: Loss, batch: tuple[Any, Tensor]) -> None:
        """Add a batch (inputs, target)."""
        inputs, target = batch
        output = model(inputs)
        values, weights = losses_of(loss, output, target)
        weight = torch.full((), values.numel(), device=values.device) if weights is None else weights.sum()
        part = torch.stack([values.sum().double(), weight.double()])
        sums = self._scores.sums(output, target)
        self._loss = part if self._loss is None else self._loss + part
        self._sums = sums if self._sums is None else self._sums + sums

    def results(self, num_outputs: int) -> dict[str, float]:
        """Loss and scores; the one place that waits for the device."""
        assert self._loss is not None and self._sums is not None
        total, weight = self._loss.tolist()
        mean = total / weight if weight else float("nan")
        return {"loss": mean, **self._scores.results(self._sums, num_outputs)}


class Validation(Evaluation):
    """Evaluation of the validation set during training, with its consequences.

    `in_place` gives a block within which the model is what is to be validated: from `begin` until `close`.
    """

    def __init__(
        self,
        scores: Scores,
        in_place: Callable[[], AbstractContextManager[None]] = nullcontext,
        *,
        best: str | None = None,
        stop_at: str | None = None,
        patience: int | None = None,
        save_weights: Callable[[nn.Module], None] = lambda model: None,
    ) -> None:
        super().__init__(scores)
        self._in_place, self._stack = in_place, ExitStack()
        self._best_key, self._patience, self._save = best, patience, save_weights
        self._target = None if stop_at is None else parse_target(stop_at)
        self._last: dict[str, float] = {}
        self._last_at = self._stale = 0
        self.best: dict[str, Any] = {}
        self.should_stop = False

    def begin(self) -> None:
        """Start from zero, with the model as it is to be validated."""
        super().begin()
        self._stack.enter_context(self._in_place())

    def close(self) -> None:
        """Put the model back to what is trained."""
        self._stack.close()

    def end(self, num_outputs: int) -> dict[str, float]:
        """The results as val/*."""
        return {f"val/{name}": value for name, value in self.results(num_outputs).items()}

    def judge(self, results: Mapping[str, float], iterations: int) -> bool:
        """Note the results of a validation after `iterations`; whether they are the best so far."""
        self._last, self._last_at = dict(results), iterations
        if self._target is not None:
            key, holds = self._target
            self.should_stop = key in results and holds(results[key])
        if self._best_key is None:
            return False
        if self._best_key not in results:
            raise Refused(f"validate.best={self._best_key}: not measured, choose from {', '.join(results)}")
        is_best = is_better(self._best_key, results[self._best_key], than=self.best.get(self._best_key))
        self._stale = 0 if is_best else self._stale + 1
        if is_best:
            self.best = {"iteration": iterations, **results}
        self.should_stop |= self._patience is not None and self._stale >= self._patience
        return is_best

    def results_at(self, iterations: int) -> dict[str, float]:
        """The results of the validation after `iterations`, empty where there was none."""
        return self._last if self._last_at == iterations else {}

    def save_best(self, model: nn.Module) -> None:
        """Keep the weights that were just validated, before `close`."""
        self._save(model)

    def state(self) -> dict[str, Any]:
        """What a checkpoint needs."""
        return {
            "last": self._last,
            "last_at": self._last_at,
            "stale": self._stale,
            "best": self.best,
            "should_stop": self.should_stop,
        }

    def load(self, state: Mapping[str, Any]) -> None:
        """Go on from `state`."""
        self._last, self._last_at = dict(state["last"]), state["last_at"]
        self._stale, self.best = state["stale"], dict(state["best"])
        self.should_stop = state["should_stop"]


def parse_target(text: str) -> tuple[str, Callable[[float], bool]]:
    """`val/loss<1.6` as (key, test of a value)."""
    match = re.fullmatch(r"\s*(val/\w+)\s*(<=|>=|<|>)\s*([-+.\deE]+)\s*", text)
    try:
        key, compare, bound = match[1], _COMPARE[match[2]], float(match[3])  # pyright: ignore[reportOptionalSubscript]
    except (TypeError, ValueError):
        raise Refused(f"validate.stop_at={text}: must read like val/loss<1.6 or val/accuracy>=0.9") from None
    return key, lambda value: compare(value, bound)
