"""A store from every released schema: `released/<revision>.sql`, written by SQLite's dump when it was the newest.

A file is added with each new revision and never changed. It holds every table, runs in all states, links and retries.
"""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from safedl.errors import StoreError
from safedl.store import connect, migrate, queries
from safedl.store.recorder import Recorder
from tests.store import samples
from tests.store.tables import content

RELEASED = sorted((Path(__file__).parent / "released").glob("*.sql"))


@pytest.fixture(params=RELEASED, ids=lambda path: path.stem)
def old(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """Return a store as that version left it."""
    db = tmp_path / "safedl.db"
    with closing(sqlite3.connect(db)) as connection:
        connection.executescript(request.param.read_text())
    return db


def rows(db: Path) -> dict[str, list[tuple[Any, ...]]]:
    """Return all rows of all tables as they are stored, by the names that the columns had at the first release."""
    with closing(sqlite3.connect(db)) as connection:
        names = [name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        return {name: connection.execute(f'SELECT * FROM "{name}"').fetchall() for name in names}


def test_there_is_one_of_each_released_schema() -> None:
    assert [path.stem for path in RELEASED] == [f"{n:04}" for n in range(1, int(connect.HEAD) + 1)]


def test_it_is_brought_up_to_date_with_all_rows(old: Path) -> None:
    before = {name: len(found) for name, found in rows(old).items()}
    assert all(before[name] for name in ("experiment", "run", "experiment_run", "metric", "metric_point", "event"))
    migrate.upgrade(old)
    assert connect.revision(old) == connect.HEAD
    assert migrate.check(old) == []
    assert {name: len(found) for name, found in rows(old).items() if name in before} == before
    assert {row.status for row in queries.runs(old)} == {"completed", "failed", "cancelled", "skipped", "queued"}


def test_views_of_an_earlier_version_do_not_stand_in_the_way(old: Path) -> None:
    with closing(sqlite3.connect(old)) as connection:
        connection.execute("DROP VIEW leaderboard")
        connection.execute("CREATE VIEW leaderboard AS SELECT uid FROM run")
    before = content(old) if connect.revision(old) == connect.HEAD else None
    migrate.upgrade(old)
    assert migrate.check(old) == []
    assert before is None or content(old) == before


def test_a_driver_goes_on_with_it(old: Path) -> None:
    migrate.upgrade(old)
    recorder = Recorder(old)
    recorder.begin(samples.experiment("new"), [samples.run("fresh", experiment="new")], linked=["base"])
    recorder.apply(samples.finished("fresh", {"clean_accuracy": 0.5}))
    recorder.close()
    assert queries.find_run(old, "fresh").metrics["clean_accuracy"] == 0.5
    assert migrate.check(old) == []


def test_a_version_that_does_not_know_it_yet_refuses_it(old: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = old.read_bytes()
    monkeypatch.setattr(connect, "HEAD", "0000")
    for use in (migrate.ensure, queries.runs, connect.require):
        with pytest.raises(StoreError, match="newer than this Safe-DL"):
            use(old)
    assert old.read_bytes() == before
