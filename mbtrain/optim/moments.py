"""Adam's moments when its betas change in mid-run."""

import math
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor

# Which beta averages which of Adam's buffers.
_BUFFERS = (("exp_avg",), ("exp_avg_sq", "max_exp_avg_sq"))


@torch.no_grad()
def keep_corrected(states: Iterable[dict[str, Any]], *, before: Sequence[float], after: Sequence[float]) -> None:
    """Change Adam's `states` so that the bias-corrected moments stay what they are when the betas change.

    Adam divides an average by 1 - beta^t, the weight that it would have gathered had beta been the same for all t
    updates. Each average is therefore multiplied by (1 - after^t) / (1 - before^t); else betas that shrink early in a
    run would make updates several times too large until the new averages have filled.
    """
    for state in states:
        for names, old, new in zip(_BUFFERS, before, after, strict=True):
            if old == new:
                continue
            # 0 / 0 before the first update, where there is nothing to correct.
            factor = (_gathered(new, state["step"]) / _gathered(old, state["step"])).nan_to_num(1.0)
            for name in names:
                if name in state:
                    state[name].mul_(factor.to(state[name].device, state[name].dtype))


def _gathered(beta: float, steps: Tensor) -> Tensor:
    """1 - beta^steps, without loss of digits for a beta near 1."""
    return -torch.expm1(steps * (math.log(beta) if beta else -math.inf))
