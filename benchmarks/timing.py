"""How the benchmarks of speed take time: wall clock and processor time together, medians of several."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

Answer = TypeVar("Answer")
Row = tuple[str, str, str]
"""What was measured, the value, the goal (empty where there is none)."""


@dataclass(frozen=True)
class Timing:
    """Seconds by the clock on the wall, and seconds of processor time of this process, all threads together.

    With one thread both are equal on an idle machine; where others compute, only the latter says what the work costs.
    """

    wall: float
    cpu: float

    def __add__(self, other: Timing) -> Timing:
        return Timing(self.wall + other.wall, self.cpu + other.cpu)


def timed(work: Callable[[], Answer]) -> tuple[Answer, Timing]:
    """Return what `work` returns, and what it took."""
    wall, cpu = time.perf_counter(), time.process_time()
    answer = work()
    return answer, Timing(time.perf_counter() - wall, time.process_time() - cpu)


def repeated(work: Callable[[], object], times: int) -> Timing:
    """Return the medians over several repetitions."""
    return median([timed(work)[1] for _ in range(times)])


def median(timings: Sequence[Timing]) -> Timing:
    """Return the median of each clock."""
    return Timing(statistics.median(t.wall for t in timings), statistics.median(t.cpu for t in timings))


def in_seconds(took: Timing) -> str:
    """Return both clocks as text."""
    return f"{took.cpu:.1f} s processor time, {took.wall:.1f} s wall"


def in_milliseconds(took: Timing) -> str:
    """Return both clocks as text."""
    return f"{took.cpu * 1000:.0f} ms processor time, {took.wall * 1000:.0f} ms wall"
