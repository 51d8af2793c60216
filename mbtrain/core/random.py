"""Seeds: every random number of an iteration is a function of (seed, iteration), so no generator is ever saved."""

from functools import lru_cache

import torch

WEIGHTS, ITERATION, FETCH = 1, 2, 3
_MASK = (1 << 64) - 1


def mix(seed: int, *parts: int) -> int:
    """A 63-bit seed from `seed` and `parts` (a chain of splitmix64 steps; sums of multiples would collide)."""
    state = seed & _MASK
    for part in parts:
        state = _stepped(state, part)
    return state >> 1


def _stepped(state: int, part: int) -> int:
    state = (state ^ (part & _MASK)) + 0x9E3779B97F4A7C15 & _MASK
    state = (state ^ state >> 30) * 0xBF58476D1CE4E5B9 & _MASK
    state = (state ^ state >> 27) * 0x94D049BB133111EB & _MASK
    return state ^ state >> 31


@lru_cache
def _before_iteration(seed: int) -> int:
    return _stepped(seed & _MASK, ITERATION)


def seed_weights(seed: int) -> None:
    """Seed torch for the making of a model's first weights."""
    torch.manual_seed(mix(seed, WEIGHTS))


def seed_iteration(seed: int, index: int, device: torch.device) -> None:
    """Seed the generators that iteration `index` draws from (1 us; `torch.manual_seed` takes 150)."""
    value = _stepped(_before_iteration(seed), index) >> 1
    for generator in _generators(device):
        generator.manual_seed(value)


@lru_cache
def _generators(device: torch.device) -> list[torch.Generator]:
    on_gpu = [torch.cuda.default_generators[device.index or 0]] if device.type == "cuda" else []
    return [torch.default_generator, *on_gpu]
