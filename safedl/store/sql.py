"""SQL that a person typed: it may read, not too long and not too much. Plain sqlite3, so quick to import."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safedl.errors import SafedlError, UsageError
from safedl.store import connect

ALLOWED = "one statement that reads: SELECT, WITH, VALUES, EXPLAIN, or a PRAGMA that only tells"
READING = frozenset({
    sqlite3.SQLITE_SELECT, sqlite3.SQLITE_READ, sqlite3.SQLITE_FUNCTION, sqlite3.SQLITE_RECURSIVE,
})  # fmt: skip
TELLING_PRAGMAS = frozenset({
    "compile_options", "database_list", "foreign_key_check", "foreign_key_list", "freelist_count", "index_info",
    "index_list", "index_xinfo", "integrity_check", "page_count", "page_size", "quick_check", "table_info",
    "table_list", "table_xinfo",
})  # fmt: skip
"""Pragmas that change nothing, whatever argument they are given."""

LONGEST_VALUE = 16 * 2**20
"""Bytes that one value may have: a query cannot fill the memory with a single text."""

LARGEST_ANSWER = 4 * LONGEST_VALUE
"""Bytes of texts that an answer may have in all; what would come after is left out."""


@dataclass(frozen=True)
class Answer:
    """What a query returned: column names, all different, and rows; `truncated` if there were more rows."""

    columns: tuple[str, ...]
    rows: list[tuple[Any, ...]]
    truncated: bool

    def as_dicts(self) -> list[dict[str, Any]]:
        """Return the rows with their columns' names."""
        return [dict(zip(self.columns, row, strict=True)) for row in self.rows]


def query(
    db: Path | str,
    text: str,
    parameters: Mapping[str, Any] | Sequence[Any] = (),
    *,
    limit: int = 1000,
    timeout: float = 5.0,
    stopped: Callable[[], bool] = lambda: False,
) -> Answer:
    """Answer a reading statement with at most `limit` rows, within `timeout` seconds, unless `stopped` becomes true.

    Raises `UsageError` for one that fails, takes longer, is stopped, or would do anything but read; `NotFoundError` if
    there is no store yet, `StoreError` if it cannot be used.
    """
    db = Path(db)
    connect.require(db)
    with connect.errors_of(db), closing(connect.open_readonly(db)) as connection:
        deadline = time.monotonic() + timeout
        connection.text_factory = lambda raw: raw.decode(errors="replace")
        connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, LONGEST_VALUE)
        connection.set_authorizer(_authorize)
        connection.set_progress_handler(lambda: stopped() or time.monotonic() > deadline, 1000)
        try:
            cursor = connection.execute(text, parameters)
            rows, more = _fetch(cursor, limit)
        except (sqlite3.Error, ValueError, OverflowError) as error:
            raise _refusal(error, connection, db, timeout, stopped()) from error
        if cursor.description is None:
            raise UsageError(f"an empty query: write {ALLOWED}")
        return Answer(_different(item[0] for item in cursor.description), rows, more)


def _fetch(cursor: sqlite3.Cursor, limit: int) -> tuple[list[tuple[Any, ...]], bool]:
    """Return as many rows as may be shown, and whether there are more."""
    rows: list[tuple[Any, ...]] = []
    size = 0
    for row in cursor:
        size += sum(len(value) for value in row if isinstance(value, str | bytes))
        if len(rows) == limit or size > LARGEST_ANSWER:
            return rows, True
        rows.append(row)
    return rows, False


def _authorize(action: int, first: str | None, second: str | None, *_: str | None) -> int:
    allowed = action in READING or (action == sqlite3.SQLITE_PRAGMA and (first or "").lower() in TELLING_PRAGMAS)
    return sqlite3.SQLITE_OK if allowed else sqlite3.SQLITE_DENY


def _refusal(
    error: sqlite3.Error | ValueError | OverflowError,
    connection: sqlite3.Connection,
    db: Path,
    timeout: float,
    stopped: bool,
) -> SafedlError:
    match getattr(error, "sqlite_errorcode", None):
        case sqlite3.SQLITE_AUTH:
            return UsageError(f"not allowed here; write {ALLOWED}")
        case sqlite3.SQLITE_INTERRUPT if stopped:
            return UsageError("the query was stopped")
        case sqlite3.SQLITE_INTERRUPT:
            return UsageError(
                f"the query took longer than {timeout:g} s and was stopped; narrow it, or allow more time"
            )
        case sqlite3.SQLITE_BUSY | sqlite3.SQLITE_CORRUPT | sqlite3.SQLITE_IOERR:
            return connect.cannot_use(db, error)
        case _ if "no such table" in str(error):
            return UsageError(f"SQL: {error}; there are: {', '.join(_tables(connection))}")
        case _:
            return UsageError(f"SQL: {error}")


def _tables(connection: sqlite3.Connection) -> list[str]:
    """Return what can be asked: runs, views, then the other tables, without those of migrations and of SQLite."""
    connection.set_progress_handler(None, 0)
    found = connection.execute(
        "SELECT name FROM sqlite_master WHERE type IN ('view', 'table') AND name NOT LIKE 'sqlite%' "
        "AND name NOT LIKE 'alembic%' ORDER BY name <> 'run', type = 'table', name"
    )
    return [str(name) for (name,) in found]


def _different(names: Iterable[str]) -> tuple[str, ...]:
    """Return the names, repeated ones with a number: `a`, `a:2`."""
    found: list[str] = []
    for name in names:
        unique, number = name, 1
        while unique in found:
            number += 1
            unique = f"{name}:{number}"
        found.append(unique)
    return tuple(found)
