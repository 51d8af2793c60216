"""What a forward pass keeps for its backward pass: the memory that grows with a micro-batch, on any device."""

from collections.abc import Callable, Iterable

from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks


def kept_bytes(forward: Callable[[], object], *, apart_from: Iterable[Tensor] = ()) -> int:
    """Bytes of all tensors that autograd keeps while the result of `forward` lives, each counted once.

    >>> import torch
    >>> x = torch.ones(8, requires_grad=True)
    >>> kept_bytes(lambda: x.exp())
    32
    """
    known = {one.untyped_storage().data_ptr() for one in apart_from}
    kept: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        if tensor.untyped_storage().data_ptr() not in known:
            kept[tensor.data_ptr()] = tensor.numel() * tensor.element_size()
        return tensor

    with saved_tensors_hooks(keep, lambda tensor: tensor):
        output = forward()
    del output
    return sum(kept.values())
