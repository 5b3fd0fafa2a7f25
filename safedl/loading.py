"""Packages that only some stages need are loaded when they need them, by one thread at a time.

Python locks modules one by one. Threads that load packages whose modules import each other, as those of SciPy and
scikit-learn do, may come to wait for one another; Python notices, and one of them goes on with half a module, or fails.
"""

from __future__ import annotations

import importlib
import threading
from types import ModuleType

LOADING = threading.RLock()
"""Held around every import within a function that a stage may call, and around modules of users."""


def load(name: str) -> ModuleType:
    """Return the module called `name`."""
    with LOADING:
        return importlib.import_module(name)
