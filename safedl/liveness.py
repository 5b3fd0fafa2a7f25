"""Whether a driver is alive: it holds a lock that the kernel frees when the process ends, however it ends."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

LOCK = "driver.lock"
"""The file in an experiment's folder that its driver holds."""

PATIENCE = 2.0
"""Seconds that a driver tries to take its lock: others hold it for milliseconds, to look at it or to tidy up."""


def is_held(lock: Path) -> bool:
    """Return whether a driver holds the lock. Needs no permission to write; any number may ask at once.

    Where nobody can tell, because the filesystem knows no locks, the answer is yes: nothing is taken over then.
    """
    try:
        descriptor = os.open(lock, os.O_RDONLY)
    except FileNotFoundError:
        return False
    except OSError:
        return True
    try:
        # Shared, so that two who ask do not take each other for a driver.
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return True
    else:
        return False
    finally:
        os.close(descriptor)
