"""The progress of one stage, turned into events; and the flag that cancels it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from safedl.events import Event, event
from safedl.progress import Cancelled, Progress

INTERVAL = 0.2
"""Seconds between two progress events of a stage, at least."""


class StageMonitor(Progress):
    """Passes a stage's steps, curves and log lines to `emit`, and a cancel back to the stage."""

    def __init__(self, uid: str, emit: Callable[[Event], None]) -> None:
        self.uid = uid
        self.emit = emit
        self.cancelled = threading.Event()
        self.last_step = time.monotonic()
        self._last_event = 0.0
        self._phase = ""

    def step(self, phase: str, done: int, total: int) -> None:
        """Report progress, at most five times a second. Raises `Cancelled` if the stage was asked to stop."""
        if self.cancelled.is_set():
            raise Cancelled
        self.last_step = time.monotonic()
        if phase == self._phase and done < total and self.last_step - self._last_event < INTERVAL:
            return
        if phase == self._phase and done >= total and self.last_step - self._last_event < INTERVAL / 4:
            return  # many short phases of one name in a row
        self._phase, self._last_event = phase, self.last_step
        fraction = done / total if total else 0.0
        self.emit(event("progress", self.uid, phase=phase, done=done, total=total, fraction=fraction))

    def metric(self, name: str, step: int, value: float) -> None:
        """Add a point to a curve."""
        self.emit(event("metric", self.uid, name=name, step=step, value=value))

    def log(self, message: str) -> None:
        """Say one line."""
        self.emit(event("log", self.uid, level="info", message=message))
