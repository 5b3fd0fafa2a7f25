"""Why a stage failed, in one sentence with something to do about it where that is known."""

from __future__ import annotations

import torch

from safedl.errors import SafedlError, in_a_line, surroundings

MEMORY = "out of memory: lower training.batch_size, use a smaller model, or --workers 1"
UNWRITTEN = "a file could not be written; look whether the disk is full"

# Torch raises plain RuntimeErrors for these.
_NO_MEMORY = ("can't allocate memory", "out of memory", "CUBLAS_STATUS_ALLOC_FAILED", "CUDNN_STATUS_ALLOC_FAILED")
_NOT_WRITTEN = ("PytorchStreamWriter failed", "file write failed", "unexpected pos")


def expected(error: BaseException) -> str | None:
    """Return the reason where it lies in the input or around the program, or None where only a traceback tells."""
    if isinstance(error, SafedlError):
        return str(error)
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return MEMORY
    if isinstance(error, RuntimeError) and any(text in str(error) for text in _NO_MEMORY):
        return MEMORY
    if isinstance(error, RuntimeError) and any(text in str(error) for text in _NOT_WRITTEN):
        return UNWRITTEN
    return surroundings(error)


def unexpected(error: BaseException) -> str:
    """Return the reason for anything else; its traceback goes to the run's log."""
    return f"{in_a_line(error)} (safedl runs logs shows where)"
