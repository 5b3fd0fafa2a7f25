"""Writes down what a driver does: an experiment and its runs at the start, then batches of events."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Insert, bindparam, case, func, or_, select, update
from sqlalchemy.dialects.sqlite import insert
from sqlalchemy.orm import aliased
from sqlmodel import col

from safedl.errors import StoreError
from safedl.events import Event, finite
from safedl.store import migrate
from safedl.store.connect import CHUNK
from safedl.store.engine import errors_of, write_engine
from safedl.store.models import EventRow, Experiment, ExperimentRun, Metric, MetricPoint, Run
from safedl.store.records import FINAL, OPEN, ExperimentRecord, RunRecord

# Statements are built once: building one costs SQLAlchemy more than SQLite needs to execute it.
_OF_RUN = col(Run.id) == bindparam("of_run")
_STILL_OPEN = or_(*(col(Run.status) == status for status in OPEN))
_IDS = select(col(Run.uid), col(Run.id)).where(col(Run.uid).in_(bindparam("uids", expanding=True)))
_LINK = insert(ExperimentRun).on_conflict_do_nothing()
_LOG = insert(EventRow)
_SET_PROGRESS = update(Run).where(_OF_RUN, _STILL_OPEN).values(progress=bindparam("share"))
_START = update(Run).where(_OF_RUN, col(Run.status) == "queued").values(status="running", started_at=bindparam("at"))
_END = (
    update(Run)
    .where(_OF_RUN, _STILL_OPEN)
    .values(
        status=bindparam("new_status"),
        error=bindparam("reason"),
        finished_at=bindparam("at"),
        progress=case((bindparam("new_status") == "completed", 1.0), else_=col(Run.progress)),
    )
)
_OWN, _OTHER = aliased(Run), aliased(Run)
# The state is looked at in Python: asked for it here, SQLite would search by state, and most runs are completed.
_SAME_STAGE = select(col(_OTHER.id), col(_OTHER.uid), col(_OTHER.status), col(_OWN.experiment_id)).where(
    col(_OWN.id) == bindparam("of_run"), col(_OTHER.stage_key) == col(_OWN.stage_key), col(_OTHER.id) != col(_OWN.id)
)


def _upsert(table: type[Metric] | type[MetricPoint], *keys: str) -> Insert:
    statement = insert(table)
    return statement.on_conflict_do_update(index_elements=keys, set_={"value": statement.excluded.value})


_SET_METRIC = _upsert(Metric, "run_id", "name")
_SET_POINT = _upsert(MetricPoint, "run_id", "name", "step")


class Recorder:
    """The driver's pen: every call is one short transaction. Makes the store if there is none.

    Use it from one thread. Raises `StoreError` if the store cannot be used.
    """

    def __init__(self, db: Path) -> None:
        migrate.ensure(db)
        self._db = db
        self._engine = write_engine(db)

    def begin(self, experiment: ExperimentRecord, runs: Sequence[RunRecord], linked: Sequence[str] = ()) -> None:
        """Insert an experiment (or renew one that is resumed), its runs as `queued`, and links to runs that it uses.

        Raises `StoreError` if one of the `linked` is not in the store.
        """
        with errors_of(self._db), self._engine.begin() as connection:
            experiment_id = insert_experiment(connection, experiment)
            ids = insert_runs(connection, runs, {experiment.uid: experiment_id})
            known = run_ids(connection, linked)
            if missing := [uid for uid in linked if uid not in known]:
                raise StoreError(f"the store {self._db} has no run {missing[0]} to link to")
            link(connection, experiment_id, [*ids.values(), *known.values()])

    def apply(self, events: Sequence[Event]) -> None:
        """Write down a batch of events. Applying one again changes nothing; those of unknown runs are passed over."""
        with errors_of(self._db), self._engine.begin() as connection:
            apply_events(connection, events)

    def close(self) -> None:
        """Let go of the store."""
        self._engine.dispose()


def moment(text: str) -> datetime:
    """Return an aware time from ISO 8601. Raises `ValueError` for anything else."""
    value = datetime.fromisoformat(text)
    if value.tzinfo is None:
        raise ValueError(f"a time without a zone: {text}")
    return value


def numbers(result: Mapping[str, Any]) -> dict[str, float | None]:
    """Return a result's `metrics` and `timing` as metrics: None for NaN and infinities, nothing for texts."""
    values = {**(result.get("metrics") or {}), **(result.get("timing") or {})}
    return {str(k): _number(v) for k, v in values.items() if v is None or _is_number(v)}


def insert_experiment(connection: Connection, record: ExperimentRecord) -> int:
    """Insert an experiment, or renew the row of one that is resumed, and return its id."""
    values = {
        "uid": record.uid, "name": record.name, "profile": record.profile, "profile_hash": record.profile_hash,
        "config": finite(record.config), "created_at": moment(record.created_at), "note": record.note,
    }  # fmt: skip
    connection.execute(insert(Experiment).values(values).on_conflict_do_update(index_elements=["uid"], set_=values))
    found = connection.execute(select(col(Experiment.id)).where(col(Experiment.uid) == record.uid)).scalar()
    assert found is not None
    return found


def insert_runs(connection: Connection, records: Sequence[RunRecord], experiments: Mapping[str, int]) -> dict[str, int]:
    """Insert runs as `queued`, in any order, and return their rows' ids by uid.

    `experiments` are ids by uid. A parent or earlier attempt that the store does not know is left empty.
    """
    # The write lock is held, so the ids can be given out here: children name parents without asking the database.
    first = 1 + (connection.execute(select(func.max(Run.id))).scalar() or 0)
    ids = {record.uid: first + i for i, record in enumerate(records)}
    others = {uid for r in records for uid in (r.parent, r.retry_of) if uid} - ids.keys()
    known = {**run_ids(connection, others), **ids}
    rows = [
        {
            "id": ids[r.uid], "uid": r.uid, "kind": r.kind, "stage": r.stage,
            "parent_id": known.get(r.parent or ""), "experiment_id": experiments.get(r.experiment or ""),
            "dataset": r.dataset, "model": r.model, "threat": r.category, "attack": r.attack, "defense": r.defense,
            "detector": r.detector, "seed": r.seed, "status": "queued", "attempt": r.attempt,
            "retry_of": known.get(r.retry_of or ""), "params": finite(r.params), "recipe": r.recipe,
            "stage_key": r.stage_key, "code": r.code, "versions": finite(r.versions), "host": r.host, "pid": r.pid,
            "device": r.device, "created_at": moment(r.created_at),
        }
        for r in records
    ]  # fmt: skip
    connection.exec_driver_sql("PRAGMA defer_foreign_keys=ON")
    if rows:
        connection.execute(insert(Run), rows)
    return ids


def link(connection: Connection, experiment_id: int, runs: Iterable[int]) -> None:
    """Say that runs belong to an experiment; saying it again does nothing."""
    rows = [{"experiment_id": experiment_id, "run_id": run} for run in runs]
    if rows:
        connection.execute(_LINK, rows)


def run_ids(connection: Connection, uids: Iterable[str]) -> dict[str, int]:
    """Return the rows' ids of those runs that the store knows."""
    wanted = sorted(set(uids))
    found: dict[str, int] = {}
    for start in range(0, len(wanted), CHUNK):
        rows = connection.execute(_IDS, {"uids": wanted[start : start + CHUNK]})
        found.update({row.uid: row.id for row in rows})
    return found


def apply_events(connection: Connection, events: Sequence[Event]) -> None:
    """Write down events: changes of state, metrics, points of curves, progress."""
    ids = run_ids(connection, (str(e["uid"]) for e in events))
    metrics: dict[tuple[int, str], float | None] = {}
    points: dict[tuple[int, str, int], float | None] = {}
    progress: dict[int, float] = {}
    states: list[tuple[int, Event]] = []
    for item in events:
        run = ids.get(item["uid"])
        if run is None:
            continue
        match item["event"]:
            case "run":
                states.append((run, item))
            case "result":
                metrics.update({(run, name): value for name, value in numbers(item).items()})
            case "metric":
                points[run, str(item["name"]), int(item["step"])] = _number(item["value"])
            case "progress":
                progress[run] = _fraction(item)
    set_metrics(connection, metrics)
    if points:
        rows = [{"run_id": run, "name": name, "step": s, "value": v} for (run, name, s), v in points.items()]
        connection.execute(_SET_POINT, rows)
    if progress:
        connection.execute(_SET_PROGRESS, [{"of_run": run, "share": share} for run, share in progress.items()])
    for run, item in states:
        _change_state(connection, run, item)


def set_metrics(connection: Connection, metrics: Mapping[tuple[int, str], float | None]) -> None:
    """Set final values by row id of the run and name."""
    rows = [{"run_id": run, "name": name, "value": value} for (run, name), value in metrics.items()]
    if rows:
        connection.execute(_SET_METRIC, rows)


def _change_state(connection: Connection, run: int, item: Event) -> None:
    """Move a run to the state that an event names, unless its present state forbids it."""
    status, error, at = item["status"], item.get("error"), moment(item["at"])
    if status == "running":
        changed = connection.execute(_START, {"of_run": run, "at": at})
    elif status in FINAL:
        if status == "completed" and (twin := _completed_twin(connection, run)):
            status, error = "skipped", f"same result as run {twin}"
        changed = connection.execute(_END, {"of_run": run, "at": at, "new_status": status, "reason": error})
    else:
        return  # `queued` is what a run starts with; `linked` is said about runs that have ended
    if changed.rowcount:
        message = f"{status}: {error}" if error else status
        level = "error" if status in ("failed", "interrupted") else "info"
        connection.execute(_LOG, {"run_id": run, "at": at, "level": level, "message": message})


def _completed_twin(connection: Connection, run: int) -> str | None:
    """Return the uid of another completed run of the same stage, and link the run's experiment to it."""
    same = connection.execute(_SAME_STAGE, {"of_run": run})
    twin = next((row for row in same if row.status == "completed"), None)
    if twin is None:
        return None
    if twin.experiment_id is not None:
        link(connection, twin.experiment_id, [twin.id])
    return str(twin.uid)


def _fraction(progress: Event) -> float:
    """Return the share of the stage's known work that is done; of its present phase, where no more is said."""
    return float(progress.get("fraction", progress["done"] / max(progress["total"], 1)))


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _number(value: Any) -> float | None:
    return float(value) if _is_number(value) and math.isfinite(value) else None
