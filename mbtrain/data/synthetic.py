"""Data drawn from a known law: a teacher network, and a noisy quadratic whose Hessian and noise are known."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mbtrain.data.splits import Splits
from mbtrain.plan.refused import Refused

# Units of the teacher's hidden layer.
_WIDTH = 64


def synthetic(
    *, kind: str, task: str, num_samples: int, dimension: int, num_classes: int, noise: float, decay: float, seed: int
) -> Teacher | Quadratic:
    """The data set of that kind; an option that belongs to the other kind changes nothing."""
    for key, value, least in (
        ("num_samples", num_samples, 2),
        ("dimension", dimension, 1),
        ("num_classes", num_classes, 2),
    ):
        if value < least:
            raise Refused(f"dataset.{key}={value}: it must be at least {least}")
    for key, number in (("noise", noise), ("seed", seed)):
        if not number >= 0:
            raise Refused(f"dataset.{key}={number}: it must be at least 0")
    if kind == "quadratic":
        return Quadratic(num_samples, dimension, noise=noise, decay=decay, seed=seed)
    if kind != "teacher":
        raise Refused(f"dataset.kind={kind}: there are teacher and quadratic")
    if task not in ("classes", "numbers"):
        raise Refused(f"dataset.task={task}: there are classes and numbers")
    num_outputs = num_classes if task == "classes" else None
    return Teacher(num_samples, dimension, num_classes=num_outputs, noise=noise, seed=seed)


@dataclass(frozen=True)
class Teacher:
    """x ~ N(0, I); a random network f = tanh(x A) B of 64 hidden units, its outputs having spread 1, gives the targets.

    Classes are the largest of f + noise * e, e ~ N(0, I); where num_classes is None, y = f + noise * e is one number.
    """

    num_samples: int
    dimension: int
    num_classes: int | None
    noise: float
    seed: int

    def splits(self) -> Splits:
        """Draw the samples: the same ones for the same options."""
        random = np.random.Generator(np.random.Philox(self.seed))
        width = self.num_classes or 1
        first = random.standard_normal((self.dimension, _WIDTH)) * 2 / self.dimension**0.5
        second = random.standard_normal((_WIDTH, width))
        x = random.standard_normal((self.num_samples, self.dimension))
        clean = np.tanh(x @ first) @ second  # [n, outputs]
        noisy = clean / clean.std(0) + self.noise * random.standard_normal(clean.shape)
        return Splits((x, noisy if self.num_classes is None else noisy.argmax(1)), num_classes=self.num_classes)


@dataclass(frozen=True)
class Quadratic:
    """Linear regression y = w*.x + noise * e, e ~ N(0, 1), with x ~ N(0, diag(h)) and h_i = i ** -decay.

    For a linear model without bias the expected squared error at weights w, with d = w - w*, is exactly the quadratic
    d'diag(h)d + noise^2, so gradients of mini-batches are those of a noisy quadratic (arXiv 1907.04164). The training
    set is a finite sample of this law: its own mean loss agrees with it up to O(1 / sqrt(num_samples)).
    """

    num_samples: int
    dimension: int
    noise: float
    decay: float
    seed: int

    @property
    def spectrum(self) -> np.ndarray:
        """h, the variances of the features: [dimension]."""
        return np.arange(1, self.dimension + 1, dtype=np.float64) ** -self.decay

    @property
    def minimum(self) -> np.ndarray:
        """w*, the weights of least expected loss: [dimension]."""
        return np.random.Generator(np.random.Philox(self.seed)).standard_normal(self.dimension)

    def loss(self, weights: np.ndarray) -> float:
        """The expected squared error: d'diag(h)d + noise^2."""
        return float(self.spectrum @ (weights - self.minimum) ** 2 + self.noise**2)

    def hessian(self) -> np.ndarray:
        """The Hessian of the expected squared error, 2 diag(h): [dimension, dimension]."""
        return np.diag(2 * self.spectrum)

    def gradient_noise_covariance(self, weights: np.ndarray) -> np.ndarray:
        """The covariance of one sample's gradient g = 2 (w.x - y) x; a mini-batch's mean has this divided by its size.

        With d = w - w*, H = diag(h) and the fourth moments of a Gaussian (Isserlis):
        E[g] = 2 H d, Cov[g] = 4 ((d'Hd + noise^2) H + H d d'H).
        """
        pull = self.spectrum * (weights - self.minimum)  # H d
        return 4 * (self.loss(weights) * np.diag(self.spectrum) + np.outer(pull, pull))

    def splits(self) -> Splits:
        """Draw the samples: x [n, dimension], y [n, 1]."""
        # Another stream than that of `minimum`.
        random = np.random.Generator(np.random.Philox(np.random.SeedSequence([self.seed, 1])))
        x = random.standard_normal((self.num_samples, self.dimension)) * self.spectrum**0.5
        errors = self.noise * random.standard_normal(self.num_samples)
        return Splits((x, (x @ self.minimum + errors)[:, None]))
