"""What the Compare pane shows: marked runs side by side, or the defenses of each attack in order."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from safedl.errors import NotFoundError
from safedl.evaluation import MOST_COMPARED
from safedl.evaluation.comparison import COMPARED, SMALLER_IS_BETTER, Ranking, compare
from safedl.workspace import Workspace

if TYPE_CHECKING:
    from safedl.store.records import RunRecord, RunRow

MOST_RUNS = 24
"""Runs side by side: more are no comparison."""
OUTCOMES = ("clean_accuracy", "asr", "adversarial_accuracy", "robust_accuracy", "source_target_rate")
ORDER = (*OUTCOMES, *(name for name in COMPARED if name not in OUTCOMES))
SMALLER = SMALLER_IS_BETTER | {"loss", "epsilon_spent"}
SAME = 5e-4
"""Metrics that differ by less look alike in the table, so none is the better one."""


@dataclass(frozen=True)
class Compared:
    """A run in a comparison: what tells it from the others, and its metrics."""

    record: RunRecord
    label: str
    metrics: Mapping[str, float | None]

    def value(self, metric: str) -> float | None:
        """Return a metric, None if it was not measured."""
        found = self.metrics.get(metric)
        return found if found is not None and math.isfinite(found) else None


@dataclass(frozen=True)
class Overview:
    """The rankings that are shown while nothing is marked, and what they are about."""

    about: str
    rankings: tuple[Ranking, ...]
    left_out: bool = False
    """Whether there are more runs than are compared."""


def read_marked(workspace: Workspace, uids: Iterable[str]) -> list[Compared]:
    """Return the marked runs that the store still knows, oldest first, `MOST_RUNS` at most."""
    from safedl.store import queries

    rows: list[RunRow] = []
    for uid in sorted(uids)[:MOST_RUNS]:
        try:
            rows.append(queries.find_run(workspace.db, uid))
        except NotFoundError:
            continue
    names = labels([row.record for row in rows])
    return [Compared(row.record, name, row.metrics) for row, name in zip(rows, names, strict=True)]


def read_overview(workspace: Workspace) -> Overview:
    """Return the rankings on the data set and model of the newest run; none in a workspace where nothing has run."""
    from safedl.store import connect
    from safedl.store.results import Selection, newest_cell, results

    cell = newest_cell(workspace.db) if connect.exists(workspace.db) else None
    if cell is None:
        return Overview("", ())
    found = results(workspace.db, Selection(*cell), MOST_COMPARED)
    return Overview(" / ".join(cell), compare(found), len(found) == MOST_COMPARED)


def read_curves(workspace: Workspace, uids: Iterable[str]) -> dict[str, dict[str, list[tuple[int, float]]]]:
    """Return the curves of each run by name."""
    from safedl.store import queries

    found = {}
    for uid in uids:
        curves = queries.metric_points(workspace.db, uid)
        found[uid] = {name: [(s, v) for s, v in points if v is not None] for name, points in curves.items()}
    return found


def newest_runs(workspace: Workspace, limit: int = 300) -> list[RunRecord]:
    """Return the newest completed runs."""
    from safedl.store import connect, queries

    found = queries.runs(workspace.db, status="completed", limit=limit) if connect.exists(workspace.db) else []
    return [row.record for row in found]


def name_of(record: RunRecord) -> str:
    """Return what a run did to the model, without its attack."""
    if record.kind == "defense":
        return record.defense or "defense"
    if record.kind == "bound":
        return f"{record.defense}:{record.detector}" if record.detector else record.defense or "bound"
    return "undefended" if record.kind == "attack" else "clean model"


def labels(records: Sequence[RunRecord]) -> list[str]:
    """Return a name for each run that tells it from the others: defense, then attack, place, seed, end of the uid."""
    parts = [
        [name_of(r) for r in records],
        [r.attack or "" for r in records],
        [f"{r.dataset}/{r.model}" for r in records],
        [f"@{r.seed}" for r in records],
        [r.uid[-4:] for r in records],
    ]
    attacks = {r.attack for r in records if r.attack}
    names = parts[0] if len(attacks) < 2 else [" ".join(p for p in pair if p) for pair in zip(*parts[:2], strict=True)]
    for more in parts[2:]:
        if len(set(names)) == len(names):
            break
        if len(set(more)) > 1:
            names = [f"{name} {extra}" for name, extra in zip(names, more, strict=True)]
    return names


def metrics_of(runs: Sequence[Compared]) -> list[str]:
    """Return the overall metrics of the runs: accuracy and harm first, then scores, detection, cost, and last details.

    A detail that only one of several runs has is nothing to compare.
    """
    counts = Counter(name for run in runs for name in run.metrics if run.value(name) is not None)
    least = min(2, len(runs))
    details = sorted(n for n in counts if n not in ORDER and "." not in n and not n.startswith("memory"))
    return [n for n in ORDER if n in counts] + [n for n in details if counts[n] >= least]


def best_of(metric: str, runs: Sequence[Compared]) -> set[str]:
    """Return the uids of the best runs by a metric; none where fewer than two have it, or all are alike.

    Metrics without a better direction (counts and other details) have no best.
    """
    values = {run.record.uid: v for run in runs if (v := run.value(metric)) is not None}
    if direction(metric) == "" or len(values) < 2 or max(values.values()) - min(values.values()) < SAME:
        return set()
    best = min(values.values()) if metric in SMALLER else max(values.values())
    return {uid for uid, value in values.items() if abs(value - best) < SAME}


def direction(metric: str) -> str:
    """Return whether more (`↑`) or less (`↓`) of a metric is better; nothing where neither is."""
    if metric in SMALLER and metric != "removed":
        return "↓"
    return "↑" if metric in COMPARED and metric != "removed" else ""


def curve_names(curves: Mapping[str, Mapping[str, object]]) -> list[str]:
    """Return the names of all curves, those that most runs have first."""
    counts: dict[str, int] = {}
    for of_run in curves.values():
        for name in of_run:
            counts[name] = counts.get(name, 0) + 1
    return sorted(counts, key=lambda name: (-counts[name], name))


def number(value: float) -> str:
    """Return a metric in a few cells: shares with three decimals, larger values shorter."""
    if value == int(value) and abs(value) > 1:
        return f"{value:,.0f}"
    return f"{value:.3f}" if abs(value) < 10 else f"{value:.1f}" if abs(value) < 1000 else f"{value:,.0f}"
