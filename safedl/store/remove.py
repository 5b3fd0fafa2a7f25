"""Removing a run from the store, where nothing else rests on it."""

from __future__ import annotations

import shutil
from contextlib import suppress
from pathlib import Path

from sqlalchemy import delete, select, update
from sqlmodel import col

from safedl.errors import NotFoundError, SafedlError, UsageError
from safedl.store import connect, migrate
from safedl.store.engine import errors_of, write_engine
from safedl.store.models import Run
from safedl.store.records import FINAL


def delete_run(db: Path, folder: Path) -> None:
    """Remove the run in `folder` from the store, and the folder.

    Raises as `remove_run` does, and `SafedlError` if not all of the folder could be deleted.
    """
    gone = folder.with_name(f".{folder.name}.removed")
    with migrate.lock(db):  # a store that is made anew meanwhile would hold what goes
        remove_run(db, folder.name)
        # The folder goes whole: a run of which some files are left would be taken for one that is there.
        with suppress(OSError):
            folder.replace(gone)
    for path in folder.parent.glob(".*.removed"):  # with what others left that were killed
        shutil.rmtree(path, ignore_errors=True)
    if left := next((path for path in (folder, gone) if path.exists()), None):
        raise SafedlError(f"run {folder.name} is out of the store, but {left} could not be deleted: look at its rights")


def remove_run(db: Path, uid: str) -> None:
    """Remove a run's row with its metrics, curves and log.

    Raises `UsageError` if it has not ended, if other runs start from it, or if it stands between two other attempts of
    its stage, and `NotFoundError` if there is no such run.
    """
    connect.require(db)
    engine = write_engine(db)
    try:
        with errors_of(db), engine.begin() as connection:
            run = connection.execute(select(Run).where(col(Run.uid) == uid)).one_or_none()
            if run is None:
                raise NotFoundError(f"no run '{uid}'")
            if run.status not in FINAL:
                raise UsageError(f"run {uid} is {run.status}; cancel it first: safedl runs cancel {uid}")
            children = connection.execute(select(col(Run.uid)).where(col(Run.parent_id) == run.id)).scalars().all()
            if children:
                raise UsageError(
                    f"run {uid} cannot be deleted: {len(children)} runs start from it; delete those first: "
                    + ", ".join(children[:5])
                )
            later = connection.execute(select(col(Run.uid)).where(col(Run.retry_of) == run.id)).scalars().first()
            if later and run.retry_of is not None:
                raise UsageError(f"run {uid} stands between two attempts of its stage; delete the earlier one first")
            connection.execute(update(Run).where(col(Run.retry_of) == run.id).values(retry_of=None))
            connection.execute(delete(Run).where(col(Run.id) == run.id))
    finally:
        engine.dispose()
