"""What a store says, with uids instead of the rows' ids, so that two stores can be compared."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

CONTENT = {
    "experiment": "SELECT uid, name, profile, profile_hash, config, created_at, note FROM experiment",
    "run": """SELECT r.uid, r.status, r.kind, r.stage, p.uid, e.uid, r.dataset, r.model, r.threat, r.attack, r.defense,
        r.detector, r.seed, r.attempt, o.uid, r.params, r.recipe, r.stage_key, r.code, r.versions, r.host, r.pid,
        r.device, r.progress, r.error, r.created_at, r.started_at, r.finished_at
        FROM run r LEFT JOIN run p ON p.id = r.parent_id LEFT JOIN run o ON o.id = r.retry_of
        LEFT JOIN experiment e ON e.id = r.experiment_id""",
    "experiment_run": """SELECT e.uid, r.uid FROM experiment_run x JOIN run r ON r.id = x.run_id
        JOIN experiment e ON e.id = x.experiment_id""",
    "metric": "SELECT r.uid, m.name, m.value FROM metric m JOIN run r ON r.id = m.run_id",
    "metric_point": "SELECT r.uid, m.name, m.step, m.value FROM metric_point m JOIN run r ON r.id = m.run_id",
    "event": "SELECT r.uid, v.at, v.level, v.message FROM event v JOIN run r ON r.id = v.run_id",
    "run_status": "SELECT * FROM run_status",
}


def content(db: Path) -> dict[str, list[tuple[Any, ...]]]:
    """Return the rows of all tables in a common order."""
    with closing(sqlite3.connect(db)) as connection:
        return {name: sorted(connection.execute(query), key=repr) for name, query in CONTENT.items()}


def without_scores(found: dict[str, list[tuple[Any, ...]]]) -> dict[str, list[tuple[Any, ...]]]:
    """Leave out the scores: they follow from the other metrics."""
    return {**found, "metric": [row for row in found["metric"] if not row[1].startswith("score.")]}
