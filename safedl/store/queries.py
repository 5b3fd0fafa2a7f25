"""Questions to the store. Answers are plain values; nothing of SQLAlchemy leaves this module.

Functions raise `NotFoundError` where there is no store yet or no such row, and `StoreError` where it cannot be used;
`completed` and `latest_attempts`, which a plan asks before anything ran, find nothing in a store that does not exist.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, Select, func, select
from sqlalchemy.orm import aliased
from sqlmodel import col

from safedl.errors import NotFoundError
from safedl.store import connect, filters
from safedl.store.connect import CHUNK
from safedl.store.engine import errors_of, read_engine
from safedl.store.models import EventRow, Experiment, ExperimentRun, Metric, MetricPoint, Run, RunStatus
from safedl.store.records import ExperimentRecord, RunRecord, RunRow


@dataclass(frozen=True)
class ExperimentRow:
    """An experiment as the store knows it, and how many of its runs are in which state."""

    record: ExperimentRecord
    states: Mapping[str, int]


@dataclass(frozen=True)
class LogLine:
    """One change of a run's state. `at` is UTC, ISO 8601."""

    at: str
    level: str
    message: str


@dataclass(frozen=True)
class Attempt:
    """A run of a stage, and how often the stage had been tried until then."""

    uid: str
    number: int


def runs(
    db: Path | str,
    *,
    attack: str | None = None,
    defense: str | None = None,
    dataset: str | None = None,
    kind: str | None = None,
    status: str | None = None,
    experiment: str | None = None,
    filter: str = "",
    sort: str = "when",
    descending: bool = True,
    limit: int | None = 50,
    offset: int = 0,
    before: str | None = None,
) -> list[RunRow]:
    """Return runs, newest first; the next page are those `before` the last one's uid. `experiment` is a uid.

    With a `limit` of None it returns them all.
    `filter` is in the language of `safedl.store.filters`. `sort` is `when`, a field or a metric; in another order than
    newest first, the next page starts at an `offset`. Raises `UsageError` for a filter or order that has no meaning.
    """
    wanted = {"attack": attack, "defense": defense, "dataset": dataset, "kind": kind, "status": status}
    conditions = [col(getattr(Run, name)) == value for name, value in wanted.items() if value is not None]
    if experiment is not None:
        of_it = select(col(ExperimentRun.run_id)).join(Experiment).where(col(Experiment.uid) == experiment)
        conditions.append(col(Run.id).in_(of_it))
    if before is not None:
        conditions.append(col(Run.id) < select(col(Run.id)).where(col(Run.uid) == before).scalar_subquery())
    conditions += filters.conditions(filter)
    order = filters.order(sort, descending=descending)
    with _reading(Path(db)) as connection:
        return _run_rows(connection, conditions, limit, order=order, offset=offset)


def count_runs(db: Path, filter: str = "") -> int:
    """Return how many runs a filter lets through. Raises `UsageError` for a filter that has no meaning."""
    query = select(func.count()).select_from(Run).where(*filters.conditions(filter))
    with _reading(db) as connection:
        return int(connection.execute(query).scalar_one())


def find_run(db: Path, part: str) -> RunRow:
    """Return the run with `part` in its uid: the start, or the end, which is shorter to type.

    Raises `NotFoundError` unless there is exactly one.
    """
    with _reading(db) as connection:
        found = _run_rows(connection, [col(Run.uid).contains(part, autoescape=True)], limit=6)
    if not part or not found:
        raise NotFoundError(f"no run with '{part}' in its uid; see: safedl runs ls")
    if len(found) > 1:
        uids = [row.record.uid for row in found]
        raise NotFoundError(
            f"several runs have '{part}' in their uid: {', '.join(uids[:5])}{', ...' * (len(uids) > 5)}"
        )
    return found[0]


def experiments(
    db: Path, *, name: str | None = None, scans: bool = True, limit: int = 50, before: str | None = None
) -> list[ExperimentRow]:
    """Return experiments, newest first; the next page are those `before` the last one's uid.

    `name`: the profile's; `scans`: whether scans count, which simulate nothing that a profile could be judged by.
    """
    query = select(Experiment).order_by(col(Experiment.id).desc()).limit(limit)
    if not scans:
        query = query.where(
            col(Experiment.id).not_in(
                select(col(ExperimentRun.experiment_id)).join(Run).where(col(Run.kind) == "scan")
            ),
            # Its run may have been deleted.
            func.coalesce(func.json_extract(col(Experiment.config), "$.options.scan"), 0) == 0,
        )
    if name is not None:
        query = query.where(col(Experiment.name) == name)
    if before is not None:
        last = select(col(Experiment.id)).where(col(Experiment.uid) == before).scalar_subquery()
        query = query.where(col(Experiment.id) < last)
    with _reading(db) as connection:
        rows = connection.execute(query).all()
        counts = (
            select(col(ExperimentRun.experiment_id), col(Run.status), func.count().label("runs"))
            .join(Run)
            .where(col(ExperimentRun.experiment_id).in_([row.id for row in rows]))
            .group_by(col(ExperimentRun.experiment_id), col(Run.status))
        )
        states: dict[int, dict[str, int]] = {}
        for row in connection.execute(counts):
            states.setdefault(row.experiment_id, {})[row.status] = row.runs
    return [_experiment_row(row, states.get(row.id, {})) for row in rows]


def children(db: Path, uid: str) -> list[RunRow]:
    """Return the runs that start from the run `uid`, newest first."""
    parent = select(col(Run.id)).where(col(Run.uid) == uid).scalar_subquery()
    with _reading(db) as connection:
        return _run_rows(connection, [col(Run.parent_id) == parent])


def open_runs(db: Path) -> list[RunRow]:
    """Return the runs that are queued or running, newest first."""
    still_open = select(col(RunStatus.name)).where(~col(RunStatus.final))
    with _reading(db) as connection:
        return _run_rows(connection, [col(Run.status).in_(still_open)])


def completed(db: Path, stage_keys: Iterable[str]) -> dict[str, str]:
    """Return, for those stage keys that have a completed run, its uid."""
    # The state is looked at here: asked for it, SQLite would search by state, and most runs are completed.
    query = select(col(Run.stage_key), col(Run.uid), col(Run.status))
    return {row.stage_key: row.uid for row in _of_stages(db, query, stage_keys) if row.status == "completed"}


def latest_attempts(db: Path, stage_keys: Iterable[str]) -> dict[str, Attempt]:
    """Return, for those stage keys that ever ran, their newest run, in whatever state."""
    query = select(col(Run.stage_key), col(Run.uid), col(Run.attempt)).order_by(col(Run.id))
    return {row.stage_key: Attempt(row.uid, row.attempt) for row in _of_stages(db, query, stage_keys)}


def _of_stages(db: Path, query: Select[*tuple[Any, ...]], stage_keys: Iterable[str]) -> Iterator[Row[Any]]:
    """Yield what a query about runs says of those with one of the stage keys: nothing where there is no store."""
    keys = sorted(set(stage_keys))
    if not connect.exists(db):
        return
    with _reading(db) as connection:
        for start in range(0, len(keys), CHUNK):
            yield from connection.execute(query.where(col(Run.stage_key).in_(keys[start : start + CHUNK])))


def metric_points(db: Path, uid: str) -> dict[str, list[tuple[int, float | None]]]:
    """Return a run's curves: name -> points (step, value) by step."""
    query = select(col(MetricPoint.name), col(MetricPoint.step), col(MetricPoint.value)).order_by(
        col(MetricPoint.name), col(MetricPoint.step)
    )
    curves: dict[str, list[tuple[int, float | None]]] = {}
    with _reading(db) as connection:
        for row in connection.execute(query.where(col(MetricPoint.run_id) == _run_id(connection, uid))):
            curves.setdefault(row.name, []).append((row.step, row.value))
    return curves


def run_log(db: Path, uid: str) -> list[LogLine]:
    """Return a run's changes of state, oldest first."""
    query = select(EventRow).order_by(col(EventRow.id))
    with _reading(db) as connection:
        found = connection.execute(query.where(col(EventRow.run_id) == _run_id(connection, uid)))
        return [LogLine(_text(row.at), row.level, row.message) for row in found]


@contextmanager
def _reading(db: Path) -> Iterator[Connection]:
    connect.require(db)
    with errors_of(db), read_engine(db).connect() as connection:
        yield connection


def _run_id(connection: Connection, uid: str) -> int:
    found = connection.execute(select(col(Run.id)).where(col(Run.uid) == uid)).scalar()
    if found is None:
        raise NotFoundError(f"no run '{uid}'")
    return found


def _run_rows(
    connection: Connection,
    conditions: Sequence[ColumnElement[bool]],
    limit: int | None = None,
    order: Sequence[ColumnElement[Any]] = (),
    offset: int = 0,
) -> list[RunRow]:
    parent, earlier = aliased(Run), aliased(Run)
    query: Select[*tuple[Any, ...]] = (
        select(
            Run,
            col(parent.uid).label("parent"),
            col(earlier.uid).label("earlier"),
            col(Experiment.uid).label("experiment"),
        )
        .outerjoin(parent, col(Run.parent_id) == col(parent.id))
        .outerjoin(earlier, col(Run.retry_of) == col(earlier.id))
        .outerjoin(Experiment, col(Run.experiment_id) == col(Experiment.id))
        .where(*conditions)
        .order_by(*(order or [col(Run.id).desc()]))
        .limit(limit)
        .offset(offset)
    )
    rows = connection.execute(query).all()
    metrics = _metrics(connection, [row.id for row in rows])
    return [_run_row(row, metrics.get(row.id, {})) for row in rows]


def _metrics(connection: Connection, ids: Sequence[int]) -> dict[int, dict[str, float | None]]:
    found: dict[int, dict[str, float | None]] = {}
    for start in range(0, len(ids), CHUNK):
        query = select(Metric).where(col(Metric.run_id).in_(ids[start : start + CHUNK]))
        for row in connection.execute(query):
            found.setdefault(row.run_id, {})[row.name] = row.value
    return found


def _run_row(row: Row[Any], metrics: Mapping[str, float | None]) -> RunRow:
    record = RunRecord(
        uid=row.uid, kind=row.kind, dataset=row.dataset, model=row.model, seed=row.seed, recipe=row.recipe,
        stage_key=row.stage_key, params=row.params, code=row.code, versions=row.versions,
        created_at=_text(row.created_at), stage=row.stage, parent=row.parent, experiment=row.experiment,
        category=row.threat, attack=row.attack, defense=row.defense, detector=row.detector,
        attempt=row.attempt, retry_of=row.earlier, host=row.host, pid=row.pid, device=row.device,
    )  # fmt: skip
    started = _text(row.started_at) if row.started_at else None
    finished = _text(row.finished_at) if row.finished_at else None
    return RunRow(record, row.status, row.error, row.progress, started, finished, metrics)


def _experiment_row(row: Row[Any], states: Mapping[str, int]) -> ExperimentRow:
    record = ExperimentRecord(
        row.uid, row.name, row.profile, row.profile_hash, row.config, _text(row.created_at), row.note
    )
    return ExperimentRow(record, states)


def _text(at: datetime) -> str:
    return at.isoformat()
