"""The update: clip the mean gradient, step the optimizer, move the averaged weights."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from mbtrain.core.gradient import Gradient
from mbtrain.optim.clip import clipped, global_norm
from mbtrain.optim.direct import DirectStep
from mbtrain.optim.ema import Ema


class Update:
    """Applies one mean gradient; says whether it was applied (a float16 overflow skips it)."""

    def __init__(
        self,
        parameters: Sequence[nn.Parameter],
        optimizer: torch.optim.Optimizer,
        *,
        clip_norm: float | None,
        ema: Ema | None,
        scaler: torch.amp.GradScaler | None = None,
    ) -> None:
        self._parameters, self.optimizer = list(parameters), optimizer
        self._clip_norm, self.ema, self.scaler = clip_norm, ema, scaler
        self._has_stepped = False
        self._gradient: Gradient = []
        self._direct = DirectStep(optimizer)
        places = {id(one): place for place, one in enumerate(self._parameters)}
        self._order = [places[id(one)] for group in optimizer.param_groups for one in group["params"]]
        self._is_in_order = self._order == list(range(len(self._parameters)))
        self._is_assigned = False
        self._is_direct = self._direct.is_possible and scaler is None
        if scaler is not None:
            optimizer.register_step_post_hook(self._note_step)

    @property
    def loss_scale(self) -> Tensor | None:
        """What the loss is multiplied by before its gradient is taken (float16), on the device."""
        return None if self.scaler is None else self.scaler.scale(torch.ones((), device=self._parameters[0].device))

    def set_gradient(self, gradient: Gradient, *, is_shown: bool = True) -> Tensor | None:
        """Take the gradient, unscale and clip it; its global norm before clipping where that is known.

        It is in `p.grad` afterwards where it `is_shown`; else the direct step takes it as it is.
        """
        if self.scaler is not None:
            self._assign(gradient)
            self.scaler.unscale_(self.optimizer)
            gradient = [parameter.grad for parameter in self._parameters]
        norm = None
        if self._clip_norm is not None:
            norm = global_norm(gradient)
            gradient = clipped(gradient, self._clip_norm, norm)
        self._gradient = gradient
        if is_shown or not self._is_direct:
            self._assign(gradient)
        return norm

    def release(self) -> None:
        """Let go of the gradient, in `p.grad` too: the next one finds its memory free, and in the cache still."""
        if self._is_assigned:
            self._assign([None] * len(self._parameters))
            self._is_assigned = False
        self._gradient = []

    def step(self, *, lr: float, num_samples: int) -> bool:
        """Step with the learning rate `lr` after a mini-batch of `num_samples`; whether the weights were updated."""
        for group in self.optimizer.param_groups:
            group["lr"] = lr
        if self.scaler is None:
            if not (self._is_direct and self._direct.try_step(self._by_group())):
                if not self._is_assigned:
                    self._assign(self._gradient)
                self.optimizer.step()
            has_stepped = True
        else:
            self._has_stepped = False
            self.scaler.step(self.optimizer)
            self.scaler.update()
            has_stepped = self._has_stepped
        if self.ema is not None and has_stepped:
            self.ema.update(num_samples)
        return has_stepped

    def note(self, *, lr: float, num_samples: int) -> None:
        """Take in an update of the weights that was made elsewhere."""
        for group in self.optimizer.param_groups:
            group["lr"] = lr
        if self.ema is not None:
            self.ema.update(num_samples)

    def _by_group(self) -> Gradient:
        """The gradient in the order of the optimizer's groups, as whoever was shown it has left it."""
        gradient = [one.grad for one in self._parameters] if self._is_assigned else self._gradient
        return gradient if self._is_in_order else [gradient[place] for place in self._order]

    def _assign(self, gradient: Gradient) -> None:
        self._is_assigned = True
        for parameter, one in zip(self._parameters, gradient, strict=True):
            parameter.grad = one

    def _note_step(self, *_: object) -> None:
        self._has_stepped = True
