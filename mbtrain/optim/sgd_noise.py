"""How noisy the updates of SGD are, as far as learning rate and batch size decide it."""

from collections.abc import Callable

import torch

NoiseScale = Callable[[float, int], float]


def sgd_noise_of(optimizer: torch.optim.Optimizer) -> NoiseScale | None:
    """lr / (batch size x (1 - momentum)) as a function of lr and size, for torch's SGD; None for other optimizers.

    The temperature of SGD with momentum (Smith et al., arXiv 1711.00489): runs with the same curve of it by samples
    seen anneal alike, whether the learning rate falls or the batch grows.

    >>> sgd_noise_of(torch.optim.SGD([torch.zeros(1)], momentum=0.5))(0.5, 10)
    0.1
    """
    if type(optimizer) is not torch.optim.SGD:
        return None
    group = optimizer.param_groups[0]
    return lambda lr, size: lr / (size * (1 - group["momentum"]))
