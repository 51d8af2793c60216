"""Scores against their definitions, however the set is cut."""

import pytest
import torch

from mbtrain.core.gradient import MOST_LEFT
from mbtrain.training.metrics import ClassScores, NumberScores, by_iteration


def cut(*tensors: torch.Tensor, sizes: list[int]) -> list[tuple[torch.Tensor, ...]]:
    return list(zip(*(tensor.split(sizes) for tensor in tensors), strict=True))


@pytest.mark.parametrize("sizes", [[60], [7, 53], [1] * 60], ids=["whole", "ragged", "singly"])
@pytest.mark.parametrize("ignored", [None, 3])
def test_class_scores_do_not_depend_on_the_cut(sizes: list[int], ignored: int | None) -> None:
    generator = torch.Generator().manual_seed(0)
    output, target = torch.randn(60, 8, generator=generator), torch.randint(8, (60,), generator=generator)
    scores = ClassScores(ignore_index=ignored)
    sums = sum(scores.sums(*part) for part in cut(output, target, sizes=sizes))
    kept = torch.ones(60, dtype=torch.bool) if ignored is None else target != ignored
    top5 = (output.topk(5, 1).indices == target[:, None]).any(1)
    assert scores.results(sums, 8) == {
        "accuracy": pytest.approx(float((output.argmax(1) == target)[kept].double().mean()), rel=1e-14),
        "top5": pytest.approx(float(top5[kept].double().mean()), rel=1e-14),
    }


def test_top5_is_not_told_where_it_says_nothing() -> None:
    scores = ClassScores()
    assert list(scores.results(scores.sums(torch.randn(4, 3), torch.tensor([0, 1, 2, 0])), 3)) == ["accuracy"]


@pytest.mark.parametrize("shape", [(40,), (40, 3)], ids=str)
@pytest.mark.parametrize("sizes", [[40], [9, 31]], ids=str)
def test_number_scores_follow_their_definitions(shape: tuple[int, ...], sizes: list[int]) -> None:
    generator = torch.Generator().manual_seed(0)
    target = torch.randn(shape, generator=generator, dtype=torch.float64) + 5
    output = target + torch.randn(shape, generator=generator, dtype=torch.float64)
    scores = NumberScores()
    sums = sum(scores.sums(*part) for part in cut(output, target, sizes=sizes))
    error, spread = (output - target), (target - target.mean(0))
    assert scores.results(sums, 1) == {
        "mse": pytest.approx(float(error.square().mean()), rel=1e-12),
        "mae": pytest.approx(float(error.abs().mean()), rel=1e-12),
        "r2": pytest.approx(float(1 - error.square().sum() / spread.square().sum()), rel=1e-10),
    }


@pytest.mark.parametrize("sizes", [[4, 4, 4], [5, 5, 2], [12]], ids=str)
def test_scores_of_iterations_are_their_own(sizes: list[int]) -> None:
    output, target = torch.randn(12, 3), torch.randint(3, (12,))
    pairs = cut(output, target, sizes=[3] * 4)
    ((sums, counts),) = ClassScores().per_iteration(pairs, sizes)
    expected = [int((o.argmax(1) == t).sum()) for o, t in cut(output, target, sizes=sizes)]
    assert sums.tolist() == expected and counts.tolist() == sizes


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("size", [1, 7, 32, 100, 257, 1000, MOST_LEFT])
def test_sum_of_an_iteration_is_the_same_bit_for_bit_whatever_its_block_holds(size: int, dtype: torch.dtype) -> None:
    values = torch.rand(6 * size, generator=torch.Generator().manual_seed(size), dtype=dtype)
    alone = torch.stack([one.sum() for one in values.split(size)])
    assert torch.equal(by_iteration(values, [size] * 6), alone)
    assert torch.equal(by_iteration(values[:size], [size]), alone[:1])
    ragged = by_iteration(torch.cat([values, values[: size // 2]]), [size] * 6 + [size // 2])
    assert torch.equal(ragged[:6], alone)
