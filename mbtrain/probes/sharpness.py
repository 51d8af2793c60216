"""How sharp the loss is around the weights: Keskar's metric, the Hessian's largest eigenvalue and its trace."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from mbtrain.core.curvature import Estimate, top_eigenvalue, trace
from mbtrain.core.mean_loss import MeanLoss
from mbtrain.core.sharpness import random_basis, sharpness, subspace_sharpness
from mbtrain.probes.contract import Columns, Rehearsal
from mbtrain.probes.samples import Part, TrainingSet, fixed_parts


class Sharpness:
    """`sharpness/...` of the weights after the update, on `num_samples` fixed training samples.

    `full_EPSILON` and `subspace_EPSILON` are Keskar's Metric 2.1 in per cent (arXiv 1609.04836), `top_eigenvalue` and
    `trace` are of the Hessian of the mean loss, each with `..._error` (see mbtrain.core.curvature). The model is in
    evaluation mode: batch norm uses its running statistics, dropout is off. All of them depend on how the weights are
    scaled (Dinh et al., arXiv 1703.04933): compare runs of one model only.

    Costs about 11 gradients an epsilon and kind, and `num_products` Hessian-vector products (some two gradients each)
    for eigenvalue and trace; the subspace takes `num_directions` times the weights' memory, 0 leaves it out. Nothing is
    measured in half precision. On a GPU it waits for the device once, for the eigenvalue.
    """

    needs = ("update",)

    def __init__(
        self,
        *,
        train: TrainingSet,
        trained: Mapping[str, nn.Parameter],
        num_samples: int = 512,
        part_size: int = 128,
        epsilons: Sequence[float] = (1e-3, 5e-4),
        num_directions: int = 100,
        num_products: int = 20,
    ) -> None:
        self._trained, self._epsilons = dict(trained), epsilons
        self._num_directions, self._num_products = num_directions, num_products
        # Read now: an iteration touches no file.
        self._parts = fixed_parts(train, num_samples=num_samples, part_size=part_size)

    def __call__(self, parameters: Sequence[nn.Parameter]) -> Columns:
        """Nothing is known before the update."""
        return {}

    def after_update(self, rehearsal: Rehearsal) -> Columns:
        """All columns; the random directions are the same every time."""
        rehearsal.model.eval()
        weights = nn.utils.parameters_to_vector(self._trained.values()).detach()
        generator = torch.Generator(weights.device).manual_seed(0)
        with torch.autocast(weights.device.type, enabled=False):
            loss = self._loss(rehearsal)
            return {
                **self._metric(loss, weights, generator),
                **self._of_hessian(loss, weights, generator),
            }

    def _loss(self, rehearsal: Rehearsal) -> MeanLoss[Part]:
        def evaluate(parts: Sequence[Tensor], samples: Part) -> tuple[Tensor, Tensor | None]:
            return rehearsal.losses(samples, dict(zip(self._trained, parts, strict=True)))

        return MeanLoss(self._parts, evaluate, list(self._trained.values()))

    def _metric(self, loss: MeanLoss, weights: Tensor, generator: torch.Generator) -> Columns:
        columns = {}
        for epsilon in self._epsilons:
            found = sharpness(loss, weights, epsilon=epsilon, generator=generator)
            columns[f"sharpness/full_{epsilon:g}"] = found
        if self._num_directions:
            basis = random_basis(self._num_directions, weights, generator=generator)
            for epsilon in self._epsilons:
                found = subspace_sharpness(loss, weights, basis, epsilon=epsilon, generator=generator)
                columns[f"sharpness/subspace_{epsilon:g}"] = found
        return columns

    def _of_hessian(self, loss: MeanLoss, weights: Tensor, generator: torch.Generator) -> Columns:
        def product(vector: Tensor) -> Tensor:
            return loss.hessian_product(weights, vector)

        (start,) = random_basis(1, weights, generator=generator)
        found: dict[str, Estimate] = {
            "top_eigenvalue": top_eigenvalue(product, start, num_products=self._num_products),
            "trace": trace(product, weights, num_products=self._num_products, generator=generator),
        }
        values = {f"sharpness/{name}": one.value for name, one in found.items()}
        return values | {f"sharpness/{name}_error": one.error for name, one in found.items()}
