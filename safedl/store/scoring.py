"""Module 5's scores as metrics of runs: derived from what is stored, so the files do not hold them."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Row, TextClause, bindparam, text

from safedl.evaluation.scores import SCORE_VERSION, Scores, score, undefended
from safedl.risk.effect import JUDGED_BY, measure_of
from safedl.store import connect
from safedl.store.engine import errors_of, write_engine
from safedl.store.recorder import set_metrics

CHUNK = 500
"""Runs per transaction, so that nobody waits long for the write lock; SQLite also limits a statement's variables."""

Values = dict[int, dict[str, float | None]]
"""Metrics by row id of the run and name."""


def _of(statement: str) -> TextClause:
    return text(statement).bindparams(bindparam("ids", expanding=True))


_RUNS = (
    "SELECT id, uid FROM run WHERE status = 'completed' AND kind != 'baseline' AND parent_id IS NOT NULL ORDER BY id"
)
_OUTDATED = text(
    "SELECT r.id FROM metric m JOIN run r ON r.id = m.run_id "
    "WHERE m.name = 'score.version' AND m.value < :version AND r.status = 'completed'"
)
_CHAINS = _of(
    "SELECT r.id, r.kind, r.threat, r.attack, p.id AS parent, p.parent_id AS grandparent "
    "FROM run r JOIN run p ON p.id = r.parent_id WHERE r.id IN :ids"
)
_METRICS = _of(
    f"SELECT run_id, name, value FROM metric WHERE run_id IN :ids AND (name IN {(*JUDGED_BY, 'seconds')} "
    "OR name GLOB 'score.*')"
)
_BASELINE_METRICS = _of("SELECT run_id, name, value FROM metric WHERE run_id IN :ids")
"""All of them: the number of classes shows in their accuracies."""


def rescore(db: Path, runs: Collection[str] | None = None) -> int:
    """Compute the scores of all completed runs, or of those named by uid, and store what is new.

    Attacks get the score of the undefended model, bounds that of a defense; baselines have none. Returns how many
    runs got other scores than before. Raises `NotFoundError` if there is no store, `StoreError` if it cannot be used.
    """
    connect.require(db)
    with errors_of(db):
        engine = write_engine(db)
        try:
            with engine.begin() as connection:
                found = connection.exec_driver_sql(_RUNS).all()
            ids = [row.id for row in found if runs is None or row.uid in runs]
            changed = 0
            for start in range(0, len(ids), CHUNK):
                with engine.begin() as connection:
                    changed += rescore_rows(connection, ids[start : start + CHUNK])
            return changed
        finally:
            engine.dispose()


def renew(connection: Connection) -> None:
    """Compute the scores anew that earlier formulas gave, within the caller's transaction.

    Two versions cannot be ranked together.
    """
    _rescore_ids(connection, [row.id for row in connection.execute(_OUTDATED, {"version": SCORE_VERSION})])


def rescore_all(connection: Connection) -> None:
    """Compute the scores of all completed runs within the caller's transaction."""
    _rescore_ids(connection, [row.id for row in connection.exec_driver_sql(_RUNS)])


def _rescore_ids(connection: Connection, ids: Sequence[int]) -> None:
    for start in range(0, len(ids), CHUNK):
        rescore_rows(connection, ids[start : start + CHUNK])


def rescore_rows(connection: Connection, ids: Sequence[int]) -> int:
    """Compute the scores of at most `CHUNK` runs by row id; return how many got other scores than before."""
    chains = connection.execute(_CHAINS, {"ids": ids}).all()
    baselines = {_baseline(row) for row in chains}
    metrics = _metrics(connection, _METRICS, {*ids, *(row.parent for row in chains)})
    metrics |= _metrics(connection, _BASELINE_METRICS, baselines)
    fresh: dict[tuple[int, str], float | None] = {}
    changed = 0
    for row in chains:
        new = _scores(row, metrics).as_metrics()
        old = metrics.get(row.id, {})
        if any(name not in old or old[name] != value for name, value in new.items()):
            fresh |= {(row.id, name): value for name, value in new.items()}
            changed += 1
    set_metrics(connection, fresh)
    return changed


def _baseline(row: Row[Any]) -> int:
    """Return the baseline of an attack, defense or bound; 0, which no row has, if it is not there."""
    found: int | None = row.parent if row.kind == "attack" else row.grandparent
    return found or 0


def _scores(row: Row[Any], metrics: Values) -> Scores:
    measure = measure_of(row.attack, row.threat)
    baseline, own = metrics.get(_baseline(row), {}), metrics.get(row.id, {})
    if row.kind == "attack":
        return undefended(measure, baseline, own)
    return score(measure, baseline, metrics.get(row.parent, {}), own)


def _metrics(connection: Connection, query: TextClause, ids: Collection[int]) -> Values:
    found: Values = {}
    for row in connection.execute(query, {"ids": sorted(ids)}):
        found.setdefault(row.run_id, {})[row.name] = row.value
    return found
