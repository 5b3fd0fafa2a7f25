"""Completed runs as a comparison needs them. Plain sqlite3, so quick to import, and only the metrics compared."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Collection
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safedl.evaluation.comparison import COMPARED, NONE, Result
from safedl.risk.effect import JUDGED_BY, Metrics
from safedl.risk.recommend import Evidence
from safedl.store import connect
from safedl.store.connect import CHUNK

NAMES = tuple(dict.fromkeys((*COMPARED, *JUDGED_BY)))


@dataclass(frozen=True)
class Selection:
    """Which runs to compare; None leaves a field open. `experiment` is a uid."""

    dataset: str | None = None
    model: str | None = None
    attack: str | None = None
    experiment: str | None = None

    def condition(self) -> tuple[str, list[str]]:
        """Return the selection as SQL about a run `r`, and its parameters."""
        chosen = {"dataset": self.dataset, "model": self.model, "attack": self.attack}
        terms = [f"r.{name} = ?" for name, value in chosen.items() if value is not None]
        values = [value for value in chosen.values() if value is not None]
        if self.experiment is not None:
            terms.append(
                "r.id IN (SELECT x.run_id FROM experiment_run x JOIN experiment e ON e.id = x.experiment_id "
                "WHERE e.uid = ?)"
            )
            values.append(self.experiment)
        return " AND ".join(terms) or "1", values


def results(db: Path, chosen: Selection, limit: int | None = None) -> list[Result]:
    """Return the completed attacks, defenses and bounds of a selection, oldest first; at most the newest `limit`.

    Raises `NotFoundError` if there is no store, `StoreError` if it cannot be used.
    """
    connect.require(db)
    where, values = chosen.condition()
    # The plus keeps SQLite from searching by state: most runs are completed.
    # Without its parent a run compares with nothing.
    query = f"""SELECT r.id, r.uid, r.kind, r.dataset, r.model, r.threat, r.attack, r.defense, r.detector, r.seed,
  r.recipe, p.id, p.recipe, p.parent_id
FROM run r JOIN run p ON p.id = r.parent_id
WHERE r.kind IN ('attack', 'defense', 'bound') AND +r.status = 'completed' AND {where} ORDER BY r.id DESC LIMIT ?"""
    with connect.errors_of(db), closing(connect.open_readonly(db)) as connection:
        rows = connection.execute(query, [*values, -1 if limit is None else limit]).fetchall()
        metrics = _metrics(connection, {run for row in rows for run in (row[0], row[11], row[13]) if run is not None})
    return [_result(row, metrics) for row in reversed(rows)]


def evidence(db: Path, attack: str, datasets: Collection[str], model: str) -> list[Evidence]:
    """Return what completed defenses against an attack are worth on these data sets and this model, by recipe.

    Means over the seeds of a recipe, each with its newest run. Raises `NotFoundError` if there is no store,
    `StoreError` if it cannot be used.
    """
    connect.require(db)
    query = f"""SELECT defense, dataset, model, avg(score), avg(mitigation), count(*),
  json_group_array(uid), attack_recipe
FROM (
  SELECT r.defense, r.dataset, r.model, r.recipe, p.recipe AS attack_recipe, s.value AS score, m.value AS mitigation,
    r.uid, max(r.id)
  FROM run r JOIN run p ON p.id = r.parent_id
    JOIN metric s ON s.run_id = r.id AND s.name = 'score.final'
    JOIN metric m ON m.run_id = r.id AND m.name = 'score.mitigation'
  WHERE r.kind = 'defense' AND +r.status = 'completed' AND r.attack = ? AND r.model = ?
    AND r.dataset IN ({", ".join("?" * len(datasets))}) AND s.value IS NOT NULL AND m.value IS NOT NULL
  GROUP BY r.defense, r.dataset, r.model, r.recipe, r.seed
)
GROUP BY defense, dataset, model, recipe"""
    with connect.errors_of(db), closing(connect.open_readonly(db)) as connection:
        rows = connection.execute(query, [attack, model, *datasets]).fetchall()
    return [
        Evidence(defense, dataset, model, score, mitigation, seeds, tuple(sorted(json.loads(uids))), recipe)
        for defense, dataset, model, score, mitigation, seeds, uids, recipe in rows
    ]


def latest_experiment(db: Path, profile: str) -> str | None:
    """Return the uid of a profile's latest experiment, by the profile's name, scans apart; None if it never ran."""
    connect.require(db)
    with connect.errors_of(db), closing(connect.open_readonly(db)) as connection:
        query = """SELECT uid FROM experiment e
WHERE name = ? AND NOT coalesce(json_extract(config, '$.options.scan'), 0) AND NOT EXISTS (
  SELECT 1 FROM experiment_run x JOIN run r ON r.id = x.run_id WHERE x.experiment_id = e.id AND r.kind = 'scan'
) ORDER BY id DESC LIMIT 1"""
        found = connection.execute(query, [profile]).fetchone()
    return str(found[0]) if found else None


def newest_cell(db: Path) -> tuple[str, str] | None:
    """Return data set and model of the newest completed defense, or of the newest run; None in an empty store."""
    connect.require(db)
    with connect.errors_of(db), closing(connect.open_readonly(db)) as connection:
        for condition in ("kind = 'defense' AND +status = 'completed'", "1"):
            query = f"SELECT dataset, model FROM run WHERE {condition} ORDER BY id DESC LIMIT 1"
            found: tuple[str, str] | None = connection.execute(query).fetchone()
            if found:
                return found
    return None


def _metrics(connection: sqlite3.Connection, runs: Collection[int]) -> dict[int, dict[str, float | None]]:
    names = ", ".join("?" * len(NAMES))
    ids = sorted(runs)
    found: dict[int, dict[str, float | None]] = {}
    for start in range(0, len(ids), CHUNK):
        part = ids[start : start + CHUNK]
        among = ", ".join("?" * len(part))
        query = f"SELECT run_id, name, value FROM metric WHERE run_id IN ({among}) AND name IN ({names})"
        for run, name, value in connection.execute(query, [*part, *NAMES]):
            found.setdefault(run, {})[name] = value
    return found


def _result(row: tuple[Any, ...], metrics: dict[int, dict[str, float | None]]) -> Result:
    (id, uid, kind, dataset, model, threat, attack, defense, detector, seed, recipe, parent, above, grandparent) = row
    empty: Metrics = {}
    own = metrics.get(id, empty)
    if kind == "attack":
        before = baseline = metrics.get(parent, empty)
        return Result(uid, kind, dataset, model, threat, attack, NONE, seed, recipe, recipe, own, before, baseline)
    before, baseline = metrics.get(parent, empty), metrics.get(grandparent, empty)
    name = f"{defense}:{detector}" if detector else defense
    return Result(uid, kind, dataset, model, threat, attack, name, seed, recipe, above, own, before, baseline)
