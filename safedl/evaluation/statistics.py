"""Intervals, ties and Pareto fronts over a few seeds. Imports neither torch nor numpy."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from safedl.text import signed

_Z = 1.959963984540054
# 97.5 % quantiles of Student's t for 1 to 30 degrees of freedom.
_T = (
    12.706205, 4.302653, 3.182446, 2.776445, 2.570582, 2.446912, 2.364624, 2.306004, 2.262157, 2.228139,
    2.200985, 2.178813, 2.160369, 2.144787, 2.131450, 2.119905, 2.109816, 2.100922, 2.093024, 2.085963,
    2.079614, 2.073873, 2.068658, 2.063899, 2.059539, 2.055529, 2.051831, 2.048407, 2.045230, 2.042272,
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Estimate:
    """A mean over `count` seeds with its 95 % interval; `low` and `high` are None for a single seed."""

    mean: float
    low: float | None
    high: float | None
    count: int

    @property
    def text(self) -> str:
        """The mean with three decimals, and half the interval's width where there is one: `0.970 ± 0.012`."""
        return f"{self.mean:.3f}" if self.high is None else f"{self.mean:.3f} ± {self.high - self.mean:.3f}"

    @property
    def signed(self) -> str:
        """The same for a change, with its sign: `+0.970 ± 0.012`. What rounds to 0 is no fall."""
        spread = "" if self.high is None else f" ± {self.high - self.mean:.3f}"
        return f"{signed(self.mean)}{spread}"


def t_quantile(freedom: int) -> float:
    """Return the 97.5 % quantile of Student's t with `freedom` >= 1 degrees of freedom, to six digits.

    From a table up to 30, beyond by the Cornish-Fisher expansion around the normal quantile
    (Abramowitz and Stegun, 26.7.5).
    """
    if freedom <= len(_T):
        return _T[freedom - 1]
    z, n = _Z, float(freedom)
    first = (z**3 + z) / 4
    second = (5 * z**5 + 16 * z**3 + 3 * z) / 96
    third = (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384
    return z + first / n + second / n**2 + third / n**3


def estimate(values: Sequence[float]) -> Estimate:
    """Return mean and 95 % t-interval of one value per seed. Raises `ValueError` for none."""
    count = len(values)
    if count == 0:
        raise ValueError("no values to estimate from")
    mean = math.fsum(values) / count
    if count == 1:
        return Estimate(mean, None, None, 1)
    variance = math.fsum([(v - mean) ** 2 for v in values]) / (count - 1)
    half = t_quantile(count - 1) * math.sqrt(variance / count)
    return Estimate(mean, mean - half, mean + half, count)


def wilson(hits: int, count: int) -> tuple[float, float]:
    """Return the 95 % interval of a share of `hits` in `count` > 0 (Wilson, JASA 1927), within [0, 1]."""
    share, weight = hits / count, _Z**2 / count
    centre = (share + weight / 2) / (1 + weight)
    half = _Z / (1 + weight) * math.sqrt(share * (1 - share) / count + weight / (4 * count))
    return max(0.0, centre - half), min(1.0, centre + half)


def tied(best: Mapping[int, float], other: Mapping[int, float]) -> bool:
    """Say whether values by seed cannot be told apart.

    Over two or more shared seeds: the 95 % t-interval of the paired differences holds 0. Else the two intervals of
    the means overlap, where both have at least two seeds. A single seed has no interval: only equal means tie.
    """
    shared = best.keys() & other.keys()
    if len(shared) >= 2:
        gap = estimate([best[s] - other[s] for s in sorted(shared)])
        return gap.low is not None and gap.high is not None and gap.low <= 0 <= gap.high
    first, second = estimate(list(best.values())), estimate(list(other.values()))
    if first.low is None or first.high is None or second.low is None or second.high is None:
        return first.mean == second.mean
    return first.low <= second.high and second.low <= first.high


def pareto(points: Sequence[tuple[float, float]]) -> list[bool]:
    """Mark the points that no other beats: larger is better in both coordinates, equal points share their mark."""
    front: set[tuple[float, float]] = set()
    best = -math.inf
    for x, y in sorted(set(points), reverse=True):
        if y > best:
            front.add((x, y))
            best = y
    return [point in front for point in points]
