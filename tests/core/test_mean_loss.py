"""The mean loss of fixed samples: value, gradient, Hessian-vector product against torch on one big batch."""

import pytest
import torch
from torch import Tensor
from torch.autograd.functional import hessian
from torch.nn import functional as F

from mbtrain.core.mean_loss import MeanLoss
from tests.core.functions import cross_entropy, flat, samples, small_net, whole

SIZES = [[20], [7, 7, 6], [19, 1]]
WEIGHTS = [None, torch.tensor([1.0, 0.2, 3.0], dtype=torch.float64)]


@pytest.mark.parametrize("weight", WEIGHTS, ids=["plain", "weighted"])
@pytest.mark.parametrize("sizes", SIZES, ids=str)
def test_all_orders_are_those_of_one_big_batch(sizes: list[int], weight: Tensor | None) -> None:
    model, batch = small_net(), samples(20, num_features=4, num_classes=3)
    chunks = list(zip(*(part.split(sizes) for part in batch), strict=True))
    mine, reference = cross_entropy(model, chunks, weight), whole(model, batch, weight)
    weights = flat(model)
    value, gradient = mine.gradient(weights)
    assert float(value) == pytest.approx(float(reference(weights)), rel=1e-14)
    leaf = weights.clone().requires_grad_()
    torch.testing.assert_close(gradient, torch.autograd.grad(reference(leaf), leaf)[0], rtol=1e-12, atol=1e-15)
    dense = hessian(reference, weights)
    assert isinstance(dense, Tensor)
    products = torch.stack([mine.hessian_product(weights, one) for one in torch.eye(len(weights), dtype=weights.dtype)])
    torch.testing.assert_close(products, dense, rtol=1e-10, atol=1e-14)


def test_the_model_s_own_weights_are_left_alone() -> None:
    model, batch = small_net(), samples(20, num_features=4, num_classes=3)
    before = flat(model)
    loss = cross_entropy(model, [batch])
    loss.gradient(before + 1)
    loss.hessian_product(before + 1, torch.ones_like(before))
    assert torch.equal(flat(model), before) and all(one.grad is None for one in model.parameters())


def test_attention_has_a_hessian_product_too() -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(2, 1, 3, 4, generator=generator, dtype=torch.float64)

    def evaluate(parts: list[Tensor], chunk: Tensor) -> tuple[Tensor, None]:
        return F.scaled_dot_product_attention(chunk @ parts[0], chunk, chunk, is_causal=True).pow(2), None

    weights = torch.randn(16, generator=generator, dtype=torch.float64)
    vector = torch.randn(16, generator=generator, dtype=torch.float64)
    loss = MeanLoss([x], evaluate, [torch.empty(4, 4)])
    h = 1e-6
    numeric = (loss.gradient(weights + h * vector)[1] - loss.gradient(weights - h * vector)[1]) / (2 * h)
    torch.testing.assert_close(loss.hessian_product(weights, vector), numeric, rtol=1e-6, atol=1e-9)
