"""Rebuild the store from the files under `results/`, which are the record."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable
from contextlib import closing, suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TypeVar

import yaml
from pydantic import TypeAdapter, ValidationError
from sqlalchemy import Connection

from safedl import events
from safedl.errors import StoreError
from safedl.events import Event
from safedl.store import connect, migrate
from safedl.store.engine import errors_of, write_engine
from safedl.store.recorder import apply_events, insert_experiment, insert_runs, link, moment
from safedl.store.records import ExperimentRecord, RunRecord
from safedl.store.recover import living_drivers
from safedl.store.scoring import rescore_all

_EXPERIMENT = TypeAdapter(ExperimentRecord)
_RUN = TypeAdapter(RunRecord)
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
LOGS = ("-wal", "-shm", "-journal")
"""What SQLite keeps beside the file."""

Found = TypeVar("Found")

_DAMAGE = (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError, yaml.YAMLError)


@dataclass(frozen=True)
class Report:
    """What was found: how many experiments and runs, and in one line each what could not be read."""

    experiments: int
    runs: int
    problems: tuple[str, ...]


@dataclass(frozen=True)
class _Experiment:
    record: ExperimentRecord
    runs: tuple[str, ...]


@dataclass(frozen=True)
class _Run:
    record: RunRecord
    events: tuple[Event, ...]

    @property
    def ended(self) -> str:
        """When its state changed last: of two completed runs of one stage the earlier one counts."""
        return max((str(e["at"]) for e in self.events if e["event"] == "run"), default="")

    @property
    def completed(self) -> bool:
        """Whether it says that it was completed."""
        return any(e["event"] == "run" and e.get("status") == "completed" for e in self.events)


def reindex(db: Path, results: Path) -> Report:
    """Build the store anew and put it in the place of the present one, if any.

    Folders that cannot be read are left out and reported. A file that is no database is kept aside. Raises `StoreError`
    while a driver is at work, and for a folder or somebody else's database in the store's place.
    """
    problems: list[str] = []
    with migrate.lock(db):
        damaged = _is_damaged(db)
        _refuse_while_driving(results)
        experiments = _read_all(results / "experiments", _read_experiment, problems)
        runs = _rooted(_read_all(results / "runs", _read_run, problems), problems)
        new = db.with_name(f"{db.name}.new")
        _remove(new)  # one that was killed left it
        try:
            migrate.ensure(new)
            with errors_of(new):
                engine = write_engine(new)
                try:
                    with engine.begin() as connection:
                        _fill(connection, results, experiments, runs, problems)
                        rescore_all(connection)
                finally:
                    engine.dispose()  # the last connection takes the log into the file
            _refuse_while_driving(results)
            # A log that belongs to the old file must not be found beside the new one, nor be missed until then.
            if db.exists() and not damaged:
                _take_in_log(db)
            for suffix in LOGS:
                db.with_name(db.name + suffix).unlink(missing_ok=True)
            if damaged:
                db.replace(aside := db.with_name(f"{db.name}.damaged"))
                problems.append(f"{db} was no database; it is kept as {aside}")
            new.replace(db)
        finally:
            _remove(new)
    return Report(len(experiments), len(runs), tuple(problems))


def _is_damaged(db: Path) -> bool:
    """Return whether there is a file that is no database. Raises `StoreError` for what must not be replaced."""
    try:
        connect.revision(db)
    except connect.DamagedStoreError:
        return True
    return False


def _take_in_log(db: Path) -> None:
    """Take what a driver that was killed left in the log into the file, if that can be."""
    with suppress(sqlite3.Error), closing(sqlite3.connect(db)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def _fill(
    connection: Connection, results: Path, experiments: dict[str, _Experiment], runs: dict[str, _Run],
    problems: list[str],
) -> None:  # fmt: skip
    in_order = sorted(experiments.values(), key=lambda e: (moment(e.record.created_at), e.record.uid))
    experiment_ids = {e.record.uid: insert_experiment(connection, e.record) for e in in_order}
    planned = [uid for e in in_order for uid in e.runs if uid in runs]
    order = sorted(dict.fromkeys([*planned, *runs]), key=lambda uid: (_made(uid, runs), runs[uid].record.attempt))
    ids = insert_runs(connection, [runs[uid].record for uid in order], experiment_ids)
    for uid in order:
        # A resumed experiment's plan no longer names the attempts that failed; they belong to it all the same.
        if owner := experiment_ids.get(runs[uid].record.experiment or ""):
            link(connection, owner, [ids[uid]])
    for e in in_order:
        link(connection, experiment_ids[e.record.uid], [ids[uid] for uid in e.runs if uid in ids])
        gone = [uid for uid in e.runs if uid not in ids and not (results / "runs" / uid).exists()]  # others are told of
        problems += [f"run {uid}: named by experiment {e.record.uid}, not found" for uid in gone]
    for uid in sorted(order, key=lambda uid: runs[uid].ended):
        record = runs[uid].record
        if record.parent and record.parent not in ids:
            problems.append(f"run {uid}: the run that it starts from, {record.parent}, is missing")
        if record.experiment not in experiment_ids:
            problems.append(f"run {uid}: its experiment {record.experiment} is missing")
        try:
            with connection.begin_nested():
                apply_events(connection, runs[uid].events)
        except _DAMAGE as error:
            problems.append(f"run {uid}: events.jsonl: {_in_one_line(error)}")


def _rooted(runs: dict[str, _Run], problems: list[str]) -> dict[str, _Run]:
    """Return the runs without those that completed from a run that is not there, and what completed from these.

    Linked for ever they could be compared with nothing; left out they are run again.
    """
    kept = dict(runs)
    while True:
        lost = [uid for uid, run in kept.items() if run.completed and (run.record.parent or uid) not in kept]
        if not lost:
            return kept
        for uid in lost:
            parent = kept.pop(uid).record.parent
            problems.append(f"runs/{uid}: left out: the run that it starts from, {parent}, is missing")


def _made(uid: str, runs: dict[str, _Run]) -> datetime:
    """Return when a run was made: never before what it retries, though the clock may have been set back meanwhile."""
    found: dict[str, datetime] = {}
    while uid in runs and uid not in found:
        record = runs[uid].record
        found[uid], uid = moment(record.created_at), record.retry_of or ""
    return max(found.values())


def _read_all(folder: Path, read: Callable[[Path], Found], problems: list[str]) -> dict[str, Found]:
    """Return what `read` makes of each folder in `folder`, by name."""
    found = {}
    for path in sorted(p for p in folder.glob("[!.]*") if p.is_dir()):
        try:
            found[path.name] = read(path)
        except _DAMAGE as error:
            problems.append(f"{folder.name}/{path.name}: left out: {_in_one_line(error)}")
    return found


def _read_experiment(folder: Path) -> _Experiment:
    document = json.loads((folder / "plan.json").read_text(encoding="utf-8"))
    record = _EXPERIMENT.validate_python(document)
    _check(folder, record.uid, record.created_at)
    return _Experiment(record, tuple(dict.fromkeys([*document["runs"], *document["linked"]])))


def _read_run(folder: Path) -> _Run:
    record = _RUN.validate_python(yaml.load((folder / "config.yaml").read_text(encoding="utf-8"), _LOADER))
    _check(folder, record.uid, record.created_at)
    run = _Run(record, tuple(e for e in events.read(folder / "events.jsonl") if e["uid"] == record.uid))
    if run.completed:
        result = folder / "result.json"
        if not result.exists():
            # Taken for completed it would be linked for ever, and there would be nothing to link to.
            raise ValueError("it was completed, but its result.json is gone")
        told = {**json.loads(result.read_text(encoding="utf-8")), "event": "result", "uid": record.uid}
        run = _Run(record, (*run.events, told))
    return run


def _check(folder: Path, uid: str, created_at: str) -> None:
    moment(created_at)
    if uid != folder.name:
        raise ValueError(f"it says that its uid is {uid}")


def _in_one_line(error: Exception) -> str:
    if isinstance(error, ValidationError):
        first = error.errors()[0]
        return f"{'.'.join(str(part) for part in first['loc'])}: {first['msg']}"
    return " ".join(str(error).split()) or type(error).__name__


def _refuse_while_driving(results: Path) -> None:
    if alive := living_drivers(results):
        raise StoreError(f"experiment {alive[0]} is running; wait for it, or cancel it, and reindex then")


def _remove(db: Path) -> None:
    for suffix in ("", ".lock", *LOGS):
        db.with_name(db.name + suffix).unlink(missing_ok=True)
