"""Drivers that died: their open runs become `interrupted`. A driver lives as long as it holds its `driver.lock`."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from safedl import events
from safedl.events import Event
from safedl.liveness import LOCK, is_held
from safedl.store import connect, queries, scoring
from safedl.store.recorder import Recorder
from safedl.store.records import RunRecord, RunRow

REASON = "the driver ended without finishing it"


def recover(db: Path, results: Path, holding: str | None = None) -> list[str]:
    """Finish what dead drivers left behind and return the uids of the runs that are `interrupted` now.

    What a driver wrote to its runs' `events.jsonl` before it died is read first, so a run that had ended keeps its
    end, and gets the scores that its driver would have given it. The change is appended to the files too: they are
    the record. Does nothing if there is no store.
    `holding` is the experiment whose lock the caller holds, because it is about to go on with it.
    """
    if not connect.exists(db):
        return []
    interrupted: list[str] = []
    open_runs = queries.open_runs(db)
    for uid in sorted({row.record.experiment or "" for row in open_runs}):
        folder = results / "experiments" / uid
        if not uid or not folder.is_dir():  # two workspaces may share a store, and the other one's lock is not here
            dead = all(_has_ended(row.record) for row in open_runs if (row.record.experiment or "") == uid)
            interrupted += _interrupt(db, results, uid) if dead else []
            continue
        with _taken_over(folder) as dead:
            if dead or uid == holding:
                interrupted += _interrupt(db, results, uid)
    return interrupted


def living_drivers(results: Path) -> list[str]:
    """Return the uids of the experiments whose driver is at work."""
    locks = sorted((results / "experiments").glob(f"*/{LOCK}"))
    return [lock.parent.name for lock in locks if is_held(lock)]


@contextmanager
def _taken_over(experiment: Path) -> Iterator[bool]:
    """Hold an experiment's lock; yields False, without it, while its driver is alive or nobody can tell."""
    path = experiment / LOCK
    if not path.exists():
        yield True
        return
    lock = FileLock(path)
    try:
        lock.acquire(timeout=0)
    except (Timeout, OSError, NotImplementedError):
        yield False
        return
    try:
        yield True
    finally:
        lock.release()


def _has_ended(record: RunRecord) -> bool:
    """Return whether the process that made a run is known to be gone: it was one of this machine's."""
    if record.pid is None or record.host != socket.gethostname():
        return False
    try:
        os.kill(record.pid, 0)
    except ProcessLookupError:
        return True
    except OSError:
        pass
    return False


def _interrupt(db: Path, results: Path, experiment: str) -> list[str]:
    recorder = Recorder(db)
    try:
        for row in _still_open(db, experiment):
            told = events.read(results / "runs" / row.record.uid / "events.jsonl")
            with suppress(KeyError, TypeError, ValueError, AttributeError):  # a damaged file ends no run
                recorder.apply(told)
        left = [row.record.uid for row in _still_open(db, experiment)]
        ends = [events.event("run", uid, status="interrupted", error=REASON) for uid in left]
        for end in ends:
            _append(results / "runs" / end["uid"], end)
            _append(results / "experiments" / experiment, end)
        recorder.apply(ends)
    finally:
        recorder.close()
    done = queries.runs(db, experiment=experiment, status="completed", limit=None)
    scoring.rescore(db, {row.record.uid for row in done})
    return left


def _still_open(db: Path, experiment: str) -> list[RunRow]:
    return [row for row in queries.open_runs(db) if (row.record.experiment or "") == experiment]


def _append(folder: Path, item: Event) -> None:
    """Add an event to the folder's file, on a line of its own even if the last one was torn."""
    if not folder.is_dir():
        return
    path = folder / "events.jsonl"
    torn = events.is_torn(path)
    with path.open("ab") as file:
        file.write(b"\n" * torn + events.encode(item).encode() + b"\n")
