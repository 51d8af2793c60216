"""What an error for want of memory looks like, on a GPU and on a CPU."""

import torch

# What torch's allocators and the libraries below them say where they raise a plain RuntimeError.
WORDS = (
    "you tried to allocate",  # torch's CPU allocator
    "CUDA out of memory",
    "CUDA error: out of memory",
    "CUBLAS_STATUS_ALLOC_FAILED",
    "CUDNN_STATUS_ALLOC_FAILED",
    "std::bad_alloc",
)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether `error` says that there is no memory left, so that a smaller micro-batch may do.

    >>> is_out_of_memory(torch.OutOfMemoryError()), is_out_of_memory(RuntimeError("shapes do not match"))
    (True, False)
    """
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and any(words in str(error) for words in WORDS)
