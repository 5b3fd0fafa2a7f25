"""The global generators of torch, NumPy and Python, from which a user's code may draw."""

from __future__ import annotations

import random
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch

LOCK = threading.RLock()
"""Held by whoever runs a user's code or draws from global generators: both belong to the whole process."""


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Let the global generators start at `seed`, for one thread at a time, and leave them as they were."""
    with LOCK, torch.random.fork_rng(devices=[]):
        state, numpy_state = random.getstate(), np.random.get_state()
        torch.manual_seed(seed)
        random.seed(seed)
        np.random.seed(seed % 2**32)  # it takes no larger ones
        try:
            yield
        finally:
            random.setstate(state)
            np.random.set_state(numpy_state)
