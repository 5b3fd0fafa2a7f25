"""The two SQLAlchemy engines: one that writes, one that cannot."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path

from sqlalchemy import URL, Connection, Engine, NullPool, create_engine, event
from sqlalchemy.exc import DBAPIError

from safedl.store import connect

PRAGMAS = ("synchronous=NORMAL", "journal_size_limit=67108864", "cache_size=-32000")


def write_engine(path: Path, *, migrating: bool = False) -> Engine:
    """Return an engine whose every transaction takes the write lock at its start.

    A transaction that starts by reading and then writes fails at once, whatever the timeout, if somebody else wrote
    in between; BEGIN IMMEDIATE waits instead. Keep transactions to milliseconds. Foreign keys are enforced, except
    while `migrating`: SQLite changes a table by replacing it, and dropping the old one would delete all that refers
    to its rows.
    """
    mode = connect.journal_mode(path)
    engine = create_engine(
        URL.create("sqlite", database=str(path)),
        connect_args={"timeout": connect.BUSY_SECONDS, "check_same_thread": False},
    )

    @event.listens_for(engine, "connect")
    def _connected(connection: sqlite3.Connection, _record: object) -> None:
        connection.isolation_level = None  # otherwise Python begins transactions of its own
        for pragma in (f"journal_mode={mode}", f"foreign_keys={'OFF' if migrating else 'ON'}", *PRAGMAS):
            connection.execute(f"PRAGMA {pragma}")

    @event.listens_for(engine, "begin")
    def _begun(connection: Connection) -> None:
        connection.exec_driver_sql("BEGIN IMMEDIATE")

    return engine


@lru_cache(maxsize=16)
def read_engine(path: Path) -> Engine:
    """Return an engine that cannot write; each use opens the file anew, so that a rebuilt store is noticed."""
    return create_engine("sqlite://", creator=lambda: connect.open_readonly(path), poolclass=NullPool)


@contextmanager
def errors_of(path: Path) -> Iterator[None]:
    """Turn the database's errors into one `StoreError` that says which file is meant."""
    try:
        with connect.errors_of(path):
            yield
    except DBAPIError as error:
        raise connect.cannot_use(path, error.orig) from error
