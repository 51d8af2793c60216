"""Seeds that depend on (seed, iteration) alone."""

import pytest
import torch

from mbtrain.core.random import ITERATION, mix, seed_iteration, seed_weights


def test_seeds_do_not_collide_over_seeds_and_iterations() -> None:
    values = {mix(seed, ITERATION, index) for seed in range(50) for index in range(200)}
    assert len(values) == 50 * 200


def test_order_of_parts_matters() -> None:
    assert mix(0, 1, 2) != mix(0, 2, 1)


def test_seed_is_one_that_torch_takes() -> None:
    assert all(0 <= mix(seed, 1) < 2**63 for seed in (0, 1, 2**63 - 1))


def test_iteration_draws_the_same_whatever_was_drawn_before() -> None:
    draws = []
    for wasted in (0, 17):
        torch.rand(wasted)
        seed_iteration(3, 5, torch.device("cpu"))
        draws.append(torch.rand(4))
    assert torch.equal(*draws)


def test_weights_are_drawn_from_the_seed() -> None:
    draws = []
    for seed in (1, 1, 2):
        seed_weights(seed)
        draws.append(torch.rand(4))
    assert torch.equal(draws[0], draws[1]) and not torch.equal(draws[0], draws[2])


def test_generator_of_the_gpu_is_seeded_too(monkeypatch: pytest.MonkeyPatch) -> None:
    generators = [torch.Generator(), torch.Generator()]
    monkeypatch.setattr(torch.cuda, "default_generators", generators)
    seed_iteration(3, 5, torch.device("cuda", 1))
    assert generators[1].initial_seed() == torch.default_generator.initial_seed() == mix(3, ITERATION, 5)
