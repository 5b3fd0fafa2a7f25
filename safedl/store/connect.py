"""Plain SQLite connections to the store, without SQLAlchemy: quick to import, and all that reading SQL needs."""

from __future__ import annotations

import os
import sqlite3
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from urllib.parse import quote

from safedl.errors import NotFoundError, StoreError

HEAD = "0002"
"""The newest revision in `migrations/versions`; revisions are numbered, so they compare as text."""

BUSY_SECONDS = 30.0
"""How long a connection waits for somebody else's write."""

CHUNK = 500
"""How many values one statement may list: SQLite limits the number of its variables."""

LOCAL_FILESYSTEMS = frozenset({
    "ext2", "ext3", "ext4", "xfs", "btrfs", "zfs", "f2fs", "jfs", "reiserfs", "bcachefs",
    "tmpfs", "ramfs", "overlay", "aufs", "vfat", "exfat", "ntfs3",
})  # fmt: skip


def filesystem_type(path: Path) -> str:
    """Return the type of the filesystem that holds `path` (`ext4`, `nfs4`), or `unknown` where Linux does not say."""
    try:
        mounts = Path("/proc/self/mountinfo").read_text().splitlines()
    except OSError:
        return "unknown"
    target = path.resolve()
    best, found = -1, "unknown"
    for line in mounts:
        left, _, right = line.partition(" - ")
        mount = Path(left.split()[4].replace(r"\040", " "))
        # Of two mounts at one point the later one is visible.
        if target.is_relative_to(mount) and len(mount.parts) >= best:
            best, found = len(mount.parts), right.split()[0]
    return found


def journal_mode(path: Path) -> str:
    """Return `WAL` where the store lies on a local disk, else `TRUNCATE`: WAL needs memory shared by one host."""
    kind = filesystem_type(path)
    local = kind in LOCAL_FILESYSTEMS or (kind == "unknown" and sys.platform != "linux")
    return "WAL" if local else "TRUNCATE"


def open_readonly(path: Path) -> sqlite3.Connection:
    """Open the store for reading only. Any thread may use the connection, one at a time.

    `mode=ro` alone would still allow ATTACH to create another file; `query_only` forbids that too.
    """
    _undo_half_written(path)
    uri = f"file:{quote(os.fspath(path))}?mode=ro{'&immutable=1' if _lies_still(path) else ''}"
    connection = sqlite3.connect(
        uri, uri=True, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False
    )  # fmt: skip
    connection.execute("PRAGMA query_only=ON")
    return connection


def _undo_half_written(path: Path) -> None:
    """Roll back what somebody was killed in the middle of, where no log is kept: a reader may not, and is refused."""
    with suppress(OSError, sqlite3.Error):  # where it cannot be done, the reader says so
        if path.with_name(f"{path.name}-journal").stat().st_size:
            with closing(sqlite3.connect(path, timeout=BUSY_SECONDS)) as connection:
                connection.execute("SELECT count(*) FROM sqlite_master").fetchone()


_REMEDIES = {
    sqlite3.SQLITE_BUSY: "try again when the other program is done with it",
    sqlite3.SQLITE_CORRUPT: "`safedl db reindex` rebuilds it from results/",
    sqlite3.SQLITE_CANTOPEN: "its folder must be there and writable",
    sqlite3.SQLITE_FULL: "free some space",
    sqlite3.SQLITE_IOERR: "look whether the disk is full, or damaged",
    sqlite3.SQLITE_READONLY: "choose a folder that can be written to",
}
"""What to do, by SQLite's primary result code."""


def cannot_use(path: Path, error: BaseException | None) -> StoreError:
    """Return what to raise for an error of SQLite's: which file is meant, what is wrong, what to do."""
    remedy = _REMEDIES.get(getattr(error, "sqlite_errorcode", 0) & 0xFF)
    return StoreError(f"cannot use the store {path}: {error}{f'; {remedy}' if remedy else ''}")


def _lies_still(path: Path) -> bool:
    """Return whether nobody writes to the store and we could not: SQLite must not look for a log then, nor make one."""
    return not os.access(path.parent, os.W_OK) and not path.with_name(f"{path.name}-wal").exists()


@contextmanager
def errors_of(path: Path) -> Iterator[None]:
    """Turn SQLite's errors into one `StoreError` that says which file is meant."""
    try:
        yield
    except sqlite3.Error as error:
        raise cannot_use(path, error) from error


class DamagedStoreError(StoreError):
    """The file is no SQLite database, or no longer one."""


def revision(path: Path) -> str | None:
    """Return the schema's revision, or None if there is no store yet (no file, or an empty one).

    Raises `StoreError` for a folder or a database that is not a store, `DamagedStoreError` for what is no database.
    """
    if path.is_dir():
        raise StoreError(f"{path} is a folder, not a store; --db names a file")
    if not path.exists() or path.stat().st_size == 0:
        return None
    try:
        with closing(open_readonly(path)) as connection:
            tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type='table'")}
            if not tables:
                return None
            if "alembic_version" in tables:
                row = connection.execute("SELECT version_num FROM alembic_version").fetchone()
                return str(row[0]) if row else None
    except sqlite3.OperationalError as error:
        raise cannot_use(path, error) from error
    except sqlite3.DatabaseError as error:
        raise DamagedStoreError(
            f"{path} is damaged or not a store ({error}); `safedl db reindex` rebuilds it from results/"
        ) from error
    raise StoreError(f"{path} is an SQLite database, but not a Safe-DL store; choose another file with --db")


def exists(path: Path) -> bool:
    """Return whether there is a store of the present schema; False if there is none yet.

    Raises `StoreError` if it is older (`safedl db upgrade` is asked for) or newer than this version of Safe-DL.
    """
    found = revision(path)
    if found is None:
        return False
    if found > HEAD:
        raise StoreError(
            f"the store {path} (schema {found}) is newer than this Safe-DL (schema {HEAD}): update Safe-DL"
        )
    if found < HEAD:
        raise StoreError(f"the store {path} has schema {found}, this Safe-DL needs {HEAD}: run `safedl db upgrade`")
    return True


def require(path: Path) -> None:
    """Raise `NotFoundError` if there is no store yet, `StoreError` if it cannot be used."""
    if not exists(path):
        raise NotFoundError(none_yet(path))


def none_yet(path: Path) -> str:
    """Return what to say where there is no store: it may have been deleted, and the results still be there."""
    return f"no store yet at {path}; run something first, or, if there are results already: safedl db reindex"
