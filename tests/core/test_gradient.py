"""The mean gradient of a mini-batch against one big batch in float64."""

from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mbtrain.core.gradient import Multiple, mean_gradient
from tests.conftest import relative_difference

Batch = tuple[Tensor, Tensor]


@pytest.fixture
def model() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(5, 7), nn.Tanh(), nn.Linear(7, 3)).double()


def batch_of(size: int) -> Batch:
    generator = torch.Generator().manual_seed(size)
    x = torch.randn(size, 5, generator=generator, dtype=torch.float64)
    return x, torch.randint(3, (size,), generator=generator)


def split(batch: Batch, sizes: Sequence[int]) -> list[Batch]:
    return list(zip(*(part.split(list(sizes)) for part in batch), strict=True))


def evaluator(model: nn.Module, weight: Tensor | None = None, ignored: int = -100) -> Callable[[Batch], tuple]:
    def evaluate(batch: Batch) -> tuple[Tensor, Tensor | None]:
        x, y = batch
        values = F.cross_entropy(model(x), y, weight, reduction="none", ignore_index=ignored)
        if weight is None and ignored == -100:
            return values, None
        weights = torch.ones(len(y), dtype=x.dtype) if weight is None else weight[y]
        return values, weights * (y != ignored)

    return evaluate


def check_equals_one_batch(model: nn.Module, batch: Batch, sizes: Sequence[int], **loss: object) -> None:
    parameters = list(model.parameters())
    expected = F.cross_entropy(model(batch[0]), batch[1], loss.get("weight"), ignore_index=loss.get("ignored", -100))
    reference = torch.autograd.grad(expected, parameters)
    result = mean_gradient(split(batch, sizes), evaluator(model, **loss), parameters, num_micro_batches=len(sizes))
    assert float(result.loss) == pytest.approx(float(expected.detach()), rel=1e-14)
    for mine, theirs in zip(result.gradient, reference, strict=True):
        assert mine is not None and relative_difference(mine, theirs) <= 1e-12


SPLITS = [[1], [8], [4, 4], [3, 3, 2], [1] * 8, [7, 1], [8] * 32 + [1]]


@pytest.mark.parametrize("sizes", SPLITS, ids=str)
def test_gradient_is_that_of_one_big_batch(model: nn.Module, sizes: list[int]) -> None:
    check_equals_one_batch(model, batch_of(sum(sizes)), sizes)


@pytest.mark.parametrize("sizes", SPLITS, ids=str)
def test_class_weights_divide_by_the_weight_of_the_whole_mini_batch(model: nn.Module, sizes: list[int]) -> None:
    weight = torch.tensor([0.2, 1.0, 5.0], dtype=torch.float64)
    check_equals_one_batch(model, batch_of(sum(sizes)), sizes, weight=weight)


@pytest.mark.parametrize("sizes", [[8], [4, 4], [3, 3, 2], [7, 1]], ids=str)
def test_ignored_targets_count_for_nothing(model: nn.Module, sizes: list[int]) -> None:
    x, y = batch_of(8)
    y[::3] = 1
    check_equals_one_batch(model, (x, y), sizes, ignored=1)


def test_mean_of_means_would_be_wrong_on_a_ragged_mini_batch(model: nn.Module) -> None:
    batch, parameters = batch_of(257), list(model.parameters())
    reference = torch.autograd.grad(F.cross_entropy(model(batch[0]), batch[1]), parameters)
    means = [torch.autograd.grad(F.cross_entropy(model(x), y), parameters) for x, y in split(batch, [8] * 32 + [1])]
    mean_of_means = sum(gradient[0] for gradient in means) / len(means)
    assert relative_difference(mean_of_means, reference[0]) > 0.05


def test_mini_batch_of_ignored_targets_gives_zero_not_nan(model: nn.Module) -> None:
    x, y = batch_of(4)
    result = mean_gradient(
        [(x, torch.full_like(y, 1))], evaluator(model, ignored=1), list(model.parameters()), num_micro_batches=1
    )
    assert float(result.loss) == 0 and all(float(one.abs().max()) == 0 for one in result.gradient if one is not None)


def test_epoch_of_count_weighted_gradients_at_fixed_weights_is_the_full_gradient(model: nn.Module) -> None:
    batch, sizes, parameters = batch_of(50), [16, 16, 16, 2], list(model.parameters())
    full = torch.autograd.grad(F.cross_entropy(model(batch[0]), batch[1]), parameters)
    total = [torch.zeros_like(one) for one in parameters]
    for mini_batch, size in zip(split(batch, sizes), sizes, strict=True):
        halves = split(mini_batch, [size // 2, size - size // 2])
        result = mean_gradient(halves, evaluator(model), parameters, num_micro_batches=2)
        total = [a + b * size / 50 for a, b in zip(total, result.gradient, strict=True)]
    for mine, theirs in zip(total, full, strict=True):
        assert relative_difference(mine, theirs) <= 1e-12


def test_parameter_that_the_loss_does_not_reach_has_no_gradient(model: nn.Module) -> None:
    lonely = nn.Parameter(torch.zeros(2, dtype=torch.float64))
    sizes = [4, 4]
    result = mean_gradient(
        split(batch_of(8), sizes), evaluator(model), [*model.parameters(), lonely], num_micro_batches=2
    )
    assert result.gradient[-1] is None


def test_parameter_that_only_some_micro_batches_reach_keeps_their_gradient() -> None:
    a, b = (nn.Parameter(torch.ones(1, dtype=torch.float64)) for _ in range(2))

    def evaluate(which: int) -> tuple[Tensor, None]:
        return (a if which == 0 else b) * torch.ones(1, dtype=torch.float64), None

    result = mean_gradient([0, 1, 1], evaluate, [a, b], num_micro_batches=3)
    assert [float(one) for one in result.gradient if one is not None] == pytest.approx([1 / 3, 2 / 3], rel=1e-15)


def test_gradients_that_share_memory_are_not_added_twice() -> None:
    a, b = (nn.Parameter(torch.zeros(3, dtype=torch.float64)) for _ in range(2))
    result = mean_gradient([1.0, 2.0, 6.0], lambda factor: ((a + b) * factor, None), [a, b], num_micro_batches=3)
    for one in result.gradient:
        assert one is not None and torch.allclose(one, torch.full((3,), 1 / 3 * 3, dtype=torch.float64), atol=1e-15)


@pytest.mark.parametrize("sizes", [[8], [3, 3, 2]], ids=str)
def test_observers_see_each_micro_batch_weight_and_mean_gradient(model: nn.Module, sizes: list[int]) -> None:
    seen: list[tuple[float, list[Tensor]]] = []
    batch, parameters = batch_of(8), list(model.parameters())
    mean_gradient(
        split(batch, sizes),
        evaluator(model),
        parameters,
        num_micro_batches=len(sizes),
        loss_scale=torch.tensor(1024.0, dtype=torch.float64),
        observers=[lambda weight, gradient: seen.append((weight, gradient))],
    )
    assert [weight for weight, _ in seen] == sizes
    for (x, y), (_, gradient) in zip(split(batch, sizes), seen, strict=True):
        reference = torch.autograd.grad(F.cross_entropy(model(x), y), parameters)
        assert all(relative_difference(a, b) <= 1e-12 for a, b in zip(gradient, reference, strict=True))


def test_loss_scale_multiplies_the_gradient_and_not_the_loss(model: nn.Module) -> None:
    batch, parameters = batch_of(6), list(model.parameters())
    plain, scaled = (
        mean_gradient(split(batch, [4, 2]), evaluator(model), parameters, num_micro_batches=2, loss_scale=scale)
        for scale in (None, torch.tensor(8.0, dtype=torch.float64))
    )
    assert float(plain.loss) == float(scaled.loss)
    assert all(torch.allclose(b, a * 8, rtol=1e-15) for a, b in zip(plain.gradient, scaled.gradient, strict=True))


def test_tokens_are_weighted_one_by_one() -> None:
    """Two sequences of different valid length: the mean is over tokens, not over sequences."""
    weight = nn.Parameter(torch.ones(1, dtype=torch.float64))
    values = torch.tensor([[1.0, 2.0, 3.0], [10.0, 0.0, 0.0]], dtype=torch.float64)
    valid = torch.tensor([[1.0, 1.0, 1.0], [1.0, 0.0, 0.0]], dtype=torch.float64)
    result = mean_gradient(
        [0, 1],
        lambda row: (weight * values[row : row + 1] * valid[row : row + 1], valid[row : row + 1]),
        [weight],
        num_micro_batches=2,
    )
    assert float(result.loss) == pytest.approx(16 / 4, rel=1e-15)
    assert result.gradient[0] is not None and float(result.gradient[0]) == pytest.approx(4, rel=1e-15)


def test_observers_see_a_multiple_that_is_multiplied_out_where_it_is_looked_at() -> None:
    raw = [torch.tensor([1.0, 2.0]), None]
    seen = Multiple(raw, 3.0)
    assert len(seen) == 2 and seen.raw is raw and seen.factor == 3.0
    assert seen[1] is None and torch.equal(list(seen)[0], torch.tensor([3.0, 6.0]))  # pyright: ignore


class Watched(Tensor):
    """A kind of tensor of somebody's own, which sees what torch's functions are called with it."""

    seen: ClassVar[list[Any]] = []

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        cls.seen.append(func)
        return super().__torch_function__(func, types, args, kwargs or {})


def test_a_tensor_of_another_kind_goes_through_torch_s_own_grad() -> None:
    weight = torch.tensor([2.0], requires_grad=True)
    inputs = torch.tensor([1.0, 3.0])
    values = (inputs * weight).square()
    plain = mean_gradient([values], lambda one: (one, None), [weight], num_micro_batches=1)
    again = (inputs * weight).square().as_subclass(Watched)
    mine = mean_gradient([again], lambda one: (one, None), [weight], num_micro_batches=1)
    assert torch.autograd.grad in Watched.seen
    assert plain.gradient[0] is not None and mine.gradient[0] is not None
    # d/dw mean((x w)^2) = 2 w mean(x^2) = 2 * 2 * 5.
    assert float(plain.gradient[0]) == float(mine.gradient[0]) == 20.0


@pytest.mark.parametrize("num_micro_batches", [1, 3])
def test_gradient_lies_in_memory_as_its_parameter_does(num_micro_batches: int) -> None:
    torch.manual_seed(0)
    plain, turned = torch.randn(3, 5, requires_grad=True), torch.randn(5, 3).t().requires_grad_()
    parts = [torch.randn(4, 5) for _ in range(num_micro_batches)]

    def evaluate(x: Tensor) -> tuple[Tensor, None]:
        return ((x[:, :, None] * plain.t()).sum((1, 2)).square() + (x * turned.square().sum(0)).sum(1)), None

    (raw,) = torch.autograd.grad(evaluate(parts[0])[0].sum(), [plain])
    assert raw.stride() != plain.stride()
    result = mean_gradient(parts, evaluate, [plain, turned], num_micro_batches=num_micro_batches)
    expected = torch.autograd.grad(evaluate(torch.cat(parts))[0].mean(), [plain, turned])
    for one, parameter, other in zip(result.gradient, [plain, turned], expected, strict=True):
        assert one is not None and one.stride() == parameter.stride()
        torch.testing.assert_close(one, other)


def test_a_sparse_gradient_is_left_as_it_is() -> None:
    table = nn.Embedding(5, 2, sparse=True)
    result = mean_gradient(
        [torch.tensor([1, 3])], lambda x: (table(x).sum(1), None), [table.weight], num_micro_batches=1
    )
    assert result.gradient[0] is not None and result.gradient[0].is_sparse


@pytest.mark.parametrize("is_seen", [True, False], ids=["in place", "behind autograd's back"])
def test_a_hook_that_writes_into_what_it_is_given_changes_its_own_iteration_only(
    model: nn.Module, is_seen: bool
) -> None:
    def write(given: Tensor) -> None:
        (given if is_seen else given.data).mul_(3)

    parameters, batch = list(model.parameters()), batch_of(6)

    def gradient(*, is_hooked: bool) -> Tensor:
        def evaluate(batch: Batch) -> tuple[Tensor, None]:
            values = F.cross_entropy(model(batch[0]), batch[1], reduction="none")
            if is_hooked:
                values.register_hook(write)
            return values, None

        result = mean_gradient([batch], evaluate, parameters, num_micro_batches=1).gradient[0]
        assert result is not None
        return result

    plain = gradient(is_hooked=False)
    for _ in range(3):
        torch.testing.assert_close(gradient(is_hooked=True), 3 * plain)
    assert torch.equal(gradient(is_hooked=False), plain)


def test_what_a_gradient_may_be_is_made_anew() -> None:
    weight = torch.zeros(3, requires_grad=True)
    for _ in range(2):
        result = mean_gradient([None], lambda _: (weight * 1, None), [weight], num_micro_batches=1)
        assert result.gradient[0] is not None and result.gradient[0].tolist() == pytest.approx([1 / 3] * 3)
        result.gradient[0].data.zero_()


def test_gradient_does_not_depend_on_where_tensors_are_made_by_default(model: nn.Module) -> None:
    parameters, batch = list(model.parameters()), batch_of(11)
    with torch.device("meta"):
        result = mean_gradient([batch], evaluator(model), parameters, num_micro_batches=1)
    expected = torch.autograd.grad(F.cross_entropy(model(batch[0]), batch[1]), parameters)
    for one, other in zip(result.gradient, expected, strict=True):
        assert one is not None
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize("size", [3, 5000])
@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_loss_is_what_its_summands_add_up_to(size: int, dtype: torch.dtype) -> None:
    values = torch.linspace(0, 1, size).to(dtype).requires_grad_()
    parts = values.split(-(-size // 2))
    result = mean_gradient(parts, lambda one: (one * 1, None), [values], num_micro_batches=2)
    assert result.losses.dim() == 1 and not result.losses.requires_grad
    assert float(result.loss) == pytest.approx(float(values.detach().double().mean()), rel=1e-6)
