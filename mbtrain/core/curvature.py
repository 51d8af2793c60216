"""Curvature from Hessian-vector products alone: the largest eigenvalue (Lanczos) and the trace (Hutchinson)."""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

Product = Callable[[Tensor], Tensor]


class Estimate(NamedTuple):
    """A number and its error, both 0-d: for an eigenvalue a bound, for a trace the standard error."""

    value: Tensor
    error: Tensor


def top_eigenvalue(product: Product, start: Tensor, *, num_products: int) -> Estimate:
    """The largest eigenvalue of the symmetric matrix behind `product`, from `num_products` of them.

    Lanczos from the vector `start`, keeping three vectors: without orthogonalising anew, copies of found eigenvalues
    appear, and the largest stays right (Paige 1972). An eigenvalue of the matrix lies within `error` of the value: the
    norm of the residual of the Ritz vector; that none above was missed holds with probability, by the random start.

    >>> top = top_eigenvalue(lambda v: torch.tensor([3.0, -5.0]) * v, torch.tensor([1.0, 2.0]), num_products=2)
    >>> round(float(top.value), 4)
    3.0
    """
    vector, before = start / start.norm(), torch.zeros_like(start)
    offset = torch.zeros_like(start[0])
    diagonal, offsets = [], []
    for _ in range(num_products):
        image = product(vector) - offset * before
        diagonal.append(image @ vector)
        residual = image - diagonal[-1] * vector
        offset = residual.norm()
        offsets.append(offset)
        # Nothing left: the start lay in few eigenvectors. The same vector again, uncoupled, adds what is known.
        before, vector = vector, torch.where(offset > 0, residual / offset, vector)
    inner = torch.stack(offsets[:-1]) if num_products > 1 else start[:0]
    tridiagonal = torch.diag(torch.stack(diagonal)) + torch.diag(inner, 1) + torch.diag(inner, -1)
    values, vectors = torch.linalg.eigh(tridiagonal)
    return Estimate(values[-1], offset * vectors[-1, -1].abs())


def trace(product: Product, like: Tensor, *, num_products: int, generator: torch.Generator) -> Estimate:
    """The trace of the matrix behind `product`, with the standard error over `num_products` random vectors.

    Hutchinson: E[z^T H z] = tr H for z of random signs; exact where H is diagonal. `like` has the shape of z.
    """
    samples = []
    for _ in range(num_products):
        signs = torch.randint(2, like.shape, generator=generator, dtype=like.dtype, device=like.device) * 2 - 1
        samples.append(signs @ product(signs))
    values = torch.stack(samples)
    return Estimate(values.mean(), values.std() / num_products**0.5)
