"""Which errors are for want of memory."""

import pytest
import torch

from mbtrain.core.out_of_memory import is_out_of_memory


def test_error_of_torch_s_own_cpu_allocator_is_one() -> None:
    with pytest.raises(RuntimeError) as caught:
        torch.empty(1 << 50)  # more than any machine can address
    assert is_out_of_memory(caught.value)


@pytest.mark.parametrize(
    "error",
    [
        torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
        MemoryError(),
        RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 800 bytes."),
        RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
        RuntimeError("std::bad_alloc"),
    ],
    ids=repr,
)
def test_errors_for_want_of_memory_are(error: Exception) -> None:
    assert is_out_of_memory(error)


@pytest.mark.parametrize(
    "error", [RuntimeError("mat1 and mat2 shapes cannot be multiplied"), ValueError("out of memory"), OSError(28, "")]
)
def test_other_errors_are_not(error: Exception) -> None:
    assert not is_out_of_memory(error)
