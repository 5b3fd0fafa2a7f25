"""Make, upgrade and back up the store. Alembic is imported only where a schema really changes."""

from __future__ import annotations

import sqlite3
import uuid
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from datetime import UTC, datetime
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING

from filelock import FileLock

from safedl.errors import StoreError, in_a_line, surroundings
from safedl.store import connect, views

if TYPE_CHECKING:
    from alembic.config import Config
    from sqlalchemy import Connection


def scripts() -> Path:
    """Return the folder of the migrations: the installed copy, or the checkout's."""
    here = Path(__file__).resolve().parents[1]
    installed = here / "_migrations"
    return installed if installed.is_dir() else here.parent / "migrations"


def ensure(db: Path) -> None:
    """Make the store if there is none yet. Raises `StoreError` if the one there is older or newer than this code."""
    if not connect.exists(db) or not _views_are_current(db):
        upgrade(db)


def upgrade(db: Path) -> Path | None:
    """Make the store, or bring an older one, its scores or its views up to date; return the backup of an older one.

    Safe for several processes at once. Raises `StoreError` for a store that is newer than this code.
    """
    with lock(db):
        found = connect.revision(db)
        if (found or "") > connect.HEAD:
            connect.require(db)
        saved = backup(db) if found and found < connect.HEAD else None
        if found != connect.HEAD or not _views_are_current(db):
            move_to(db, connect.HEAD)
    return saved


@contextmanager
def lock(db: Path) -> Iterator[None]:
    """Hold the lock of whoever makes, changes or replaces the store, or begins to write to it.

    Raises `StoreError` if the store's folder cannot be made or the lock cannot be taken, and `OSError` for a disk that
    is read-only or full.
    """
    held = FileLock(db.with_name(f"{db.name}.lock"))
    try:
        db.parent.mkdir(parents=True, exist_ok=True)
        held.acquire()
    except (FileExistsError, NotADirectoryError) as error:
        raise StoreError(f"cannot use the store {db}: {error.filename} is a file, not a folder") from error
    except (OSError, NotImplementedError) as error:
        if surroundings(error):  # said with what to do about it, as everywhere
            raise
        raise StoreError(f"cannot use the store {db}: no lock can be held: {in_a_line(error)}") from error
    try:
        yield
    finally:
        held.release()


def move_to(db: Path, target: str) -> None:
    """Move the schema up or down to a revision (`base`: none), in one transaction: it happens whole or not at all.

    Views are dropped meanwhile (a table that a view names cannot be replaced) and foreign keys are off (replacing a
    table would delete the rows that refer to it); they are checked at the end. At this code's revision scores of
    earlier formulas are computed anew, too: an upgrade that was cut short would leave both kinds.
    Raises `StoreError`, and changes nothing, where rows would refer to what is not there.
    """
    from alembic import command

    from safedl.store.engine import errors_of, write_engine
    from safedl.store.scoring import renew  # which needs this module

    down = target == "base" or target < (connect.revision(db) or "")
    with errors_of(db):
        engine = write_engine(db, migrating=True)
        try:
            with engine.begin() as connection:
                for (name,) in connection.exec_driver_sql("SELECT name FROM sqlite_master WHERE type='view'").all():
                    connection.exec_driver_sql(f'DROP VIEW "{name}"')
                (command.downgrade if down else command.upgrade)(_config(connection), target)
                broken = connection.exec_driver_sql("PRAGMA foreign_key_check").fetchall()
                if broken:
                    raise StoreError(f"the migration to {target} would break {len(broken)} references; nothing changed")
                if target == connect.HEAD:
                    for statement in views.statements().values():
                        connection.exec_driver_sql(statement)
                    renew(connection)
        finally:
            engine.dispose()


def backup(db: Path, target: Path | None = None) -> Path:
    """Copy the store by SQLite's online backup (copying the file could miss what its log holds); return the copy.

    Raises `NotFoundError` if there is no store, `StoreError` if `target` exists.
    """
    if connect.revision(db) is None:
        connect.require(db)
    target = target or db.with_name(f"{db.name}.{datetime.now(UTC):%Y%m%dT%H%M%S.%f}.bak")
    if target.exists():
        raise StoreError(f"{target} exists already; choose another name for the backup")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StoreError(f"{target} cannot be written: {error.filename}: {error.strerror}") from error
    part = target.with_name(f"{target.name}.{uuid.uuid4().hex[:8]}.part")  # what is cut short is taken for no backup
    try:
        with (
            connect.errors_of(target),  # the store itself was read above
            closing(connect.open_readonly(db)) as source,
            closing(sqlite3.connect(part)) as copy,
        ):
            source.backup(copy)
            copy.execute("PRAGMA journal_mode=DELETE")  # one file, without a log beside it
        part.replace(target)
    finally:
        for suffix in ("", "-journal"):
            with suppress(OSError):  # on a disk that is read-only
                part.with_name(f"{part.name}{suffix}").unlink(missing_ok=True)
    return target


def check(db: Path) -> list[str]:
    """Return what is wrong with the store, in one line each: damage, broken references, tables or views that differ."""
    connect.require(db)
    with connect.errors_of(db), closing(connect.open_readonly(db)) as connection:
        problems = [str(line) for (line,) in connection.execute("PRAGMA integrity_check") if line != "ok"]
        for table, row, parent, _ in connection.execute("PRAGMA foreign_key_check"):
            problems.append(f"row {row} of {table} refers to a row of {parent} that is not there")
        stored = _views(connection)
    wanted = views.statements()
    for name in sorted(stored.keys() | wanted.keys()):
        if name not in stored:
            problems.append(f"view {name} is missing; `safedl db upgrade` makes it")
        elif name not in wanted:
            problems.append(f"view {name} is not one of Safe-DL's")
        elif stored[name] != wanted[name]:
            problems.append(f"view {name} differs from this version's; `safedl db upgrade` renews it")
    return problems + _drift(db)


def _views(connection: sqlite3.Connection) -> dict[str, str]:
    return dict(connection.execute("SELECT name, sql FROM sqlite_master WHERE type='view'"))


def _views_are_current(db: Path) -> bool:
    with connect.errors_of(db), closing(connect.open_readonly(db)) as connection:
        return _views(connection) == views.statements()


def _drift(db: Path) -> list[str]:
    """Return how the tables in the store differ from those in the code."""
    from alembic import command
    from alembic.util.exc import AutogenerateDiffsDetected

    from safedl.store.engine import read_engine

    try:
        with read_engine(db).connect() as connection:
            command.check(_config(connection))
    except AutogenerateDiffsDetected as error:
        return [str(error)]
    return []


def _config(connection: Connection) -> Config:
    from alembic.config import Config

    config = Config(stdout=StringIO())
    config.set_main_option("script_location", str(scripts()).replace("%", "%%"))
    config.attributes["connection"] = connection
    return config
