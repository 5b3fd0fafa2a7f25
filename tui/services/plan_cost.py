"""What a plan will cost, by what the same stages took before."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from safedl.plan import expand
from safedl.profile.schema import Profile

TOOK = """SELECT kind, coalesce(attack, ''), coalesce(defense, ''), avg(max(seconds,
coalesce((julianday(finished_at) - julianday(started_at)) * 86400, 0))) FROM run_metrics
WHERE +status = 'completed' AND dataset = ? AND model = ? AND seconds IS NOT NULL GROUP BY 1, 2, 3"""
"""`seconds` are those of the method, models from the cache included; the stage had its result measured, too."""
DONE = "SELECT recipe, seed FROM run WHERE +status = 'completed' AND dataset = ? AND model = ?"
MOST = 100_000


@dataclass(frozen=True)
class History:
    """Mean seconds of completed stages by (kind, attack, defense), and the (recipe, seed) of those that are done."""

    seconds: Mapping[tuple[str, str, str], float] = field(default_factory=dict)
    done: frozenset[tuple[str, int]] = frozenset()

    def of(self, defense: str, attack: str) -> float | None:
        """Return what a defense took against an attack, or against any other, or None if it never ran."""
        exact = self.seconds.get(("defense", attack, defense))
        others = [v for (kind, _, name), v in self.seconds.items() if kind == "defense" and name == defense]
        return exact if exact is not None else sum(others) / len(others) if others else None


@dataclass(frozen=True)
class Cost:
    """Stages of a plan: how many have to run, are done before, are of unknown length; seconds of the known ones."""

    to_run: int
    done: int
    unknown: int
    seconds: float


def history(db: Path, profile: Profile) -> History:
    """Return what the store knows of the profile's data set and model. Takes a query: not for the app's thread."""
    from safedl.store import connect, sql

    if profile.dataset is None or profile.model is None or not connect.exists(db):
        return History()
    names = (profile.dataset.name, profile.model.name)
    took = sql.query(db, TOOK, names, limit=MOST).rows
    done = sql.query(db, DONE, names, limit=MOST).rows
    return History({(k, a, d): float(s) for k, a, d, s in took}, frozenset((str(r), int(s)) for r, s in done))


def cost(profile: Profile, known: History) -> Cost:
    """Return what the plan of a complete profile costs."""
    stages = expand(profile).stages
    waiting = [s for s in stages if (s.recipe, s.seed) not in known.done]
    took = [
        known.of(s.defense or "", s.attack or "")
        if s.kind == "defense"
        else known.seconds.get((s.kind, s.attack or "", s.defense or ""))
        for s in waiting
    ]
    seconds = [t for t in took if t is not None]
    return Cost(len(waiting), len(stages) - len(waiting), len(took) - len(seconds), sum(seconds))
