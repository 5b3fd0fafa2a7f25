from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from safedl.errors import NotFoundError, UsageError
from safedl.store import connect, sql
from tests.store import samples
from tests.store.samples import Workplace


@pytest.fixture
def db(work: Workplace) -> Path:
    work.recorder.begin(samples.experiment(), samples.tree())
    return work.db


def test_rows_and_columns(db: Path) -> None:
    answer = sql.query(db, "SELECT kind, count(*) AS n FROM run WHERE attack = :a GROUP BY 1", {"a": "static_patch"})
    assert answer == sql.Answer(("kind", "n"), [("attack", 1), ("bound", 2), ("defense", 1)], False)
    assert answer.as_dicts()[0] == {"kind": "attack", "n": 1}


def test_more_rows_than_asked_for_are_said_to_exist(db: Path) -> None:
    assert sql.query(db, "SELECT uid FROM run", limit=4).truncated
    assert len(sql.query(db, "SELECT uid FROM run", limit=4).rows) == 4
    assert not sql.query(db, "SELECT uid FROM run", limit=5).truncated


def test_repeated_column_names_stay_apart(db: Path) -> None:
    assert sql.query(db, "SELECT 1 AS a, 2 AS a, 3 AS 'a:2'").as_dicts() == [{"a": 1, "a:2": 2, "a:2:2": 3}]


@pytest.mark.parametrize(
    "text",
    [
        "SELECT 1",
        "  -- a comment\n select 1;",
        "VALUES (1)",
        "WITH t(x) AS (SELECT 1) SELECT x FROM t",
        "WITH RECURSIVE t(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM t LIMIT 9) SELECT x FROM t",
        "EXPLAIN QUERY PLAN SELECT * FROM run",
        "PRAGMA table_info(run)",
        "PRAGMA integrity_check",
        "SELECT name, value FROM run_param",
        "SELECT count(*), rank() OVER (ORDER BY 1) FROM leaderboard",
        "SELECT json_extract(params, '$.\"training.epochs\"') FROM run",
    ],
)
def test_reading_is_allowed(db: Path, text: str) -> None:
    assert sql.query(db, text).rows or "leaderboard" in text


@pytest.mark.parametrize(
    "text",
    [
        "INSERT INTO run_status VALUES ('x', 1, 1)",
        "UPDATE run SET status = 'completed'",
        "DELETE FROM run",
        "REPLACE INTO run_status VALUES ('x', 1, 1)",
        "WITH t AS (SELECT 1) DELETE FROM run",
        "DROP TABLE metric",
        "CREATE TABLE mine (a)",
        "CREATE TEMP TABLE mine (a)",
        "ALTER TABLE run ADD COLUMN mine",
        "ATTACH 'other.db' AS other",
        "VACUUM",
        "VACUUM INTO 'copy.db'",
        "PRAGMA user_version = 7",
        "PRAGMA journal_mode = DELETE",
        "PRAGMA query_only = OFF",
        "PRAGMA writable_schema = ON",
        "PRAGMA wal_checkpoint(TRUNCATE)",
        "PRAGMA temp_store_directory = '/tmp'",
        "BEGIN",
        "SAVEPOINT s",
        "ANALYZE",
        "REINDEX",
        "EXPLAIN DELETE FROM run",
        "SELECT load_extension('x')",
        "SELECT 1; SELECT 2",
        "SELECT 1; DROP TABLE run",
        "SELECT nothing FROM run",
        "SELECT 1 FROM nowhere",
        "SELEC 1",
        "SELECT :missing",
        "SELECT 1 \0",
        "",
        "-- nothing",
        ";",
    ],
)
def test_anything_else_is_refused_in_one_line(
    db: Path, text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    before, schema = set(tmp_path.iterdir()), sql.query(db, "SELECT * FROM sqlite_master").rows
    with pytest.raises(UsageError) as caught:
        sql.query(db, text)
    assert len(str(caught.value).splitlines()) == 1
    assert set(tmp_path.iterdir()) == before
    assert sql.query(db, "SELECT count(*) FROM run").rows == [(5,)]
    assert sql.query(db, "SELECT * FROM sqlite_master").rows == schema


def test_a_connection_for_reading_writes_no_other_file(db: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.db"
    with closing(connect.open_readonly(db)) as connection, pytest.raises(sqlite3.OperationalError):
        connection.execute(f"ATTACH '{other}' AS other")
        connection.execute("CREATE TABLE other.t (x)")
    assert other.stat().st_size == 0


def test_endless_queries_are_stopped(db: Path) -> None:
    with pytest.raises(UsageError, match=r"longer than 0\.2 s"):
        endless = "WITH RECURSIVE t(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM t) SELECT count(*) FROM t"
        sql.query(db, endless, timeout=0.2)


def test_a_query_can_be_stopped(db: Path) -> None:
    asked = iter([False, False])
    endless = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n"
    with pytest.raises(UsageError, match="the query was stopped"):
        sql.query(db, endless, timeout=60, stopped=lambda: next(asked, True))


def test_huge_values_are_refused(db: Path) -> None:
    with pytest.raises(UsageError, match="too big"):
        sql.query(db, "SELECT length(zeroblob(1000000000))")


def test_many_large_values_do_not_fill_the_memory(db: Path) -> None:
    large = "WITH RECURSIVE t(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM t) SELECT zeroblob(9000000) FROM t"
    answer = sql.query(db, large)
    assert answer.truncated
    assert 1 <= len(answer.rows) < 10


def test_broken_text_is_shown(db: Path) -> None:
    assert sql.query(db, "SELECT CAST(x'61ff' AS TEXT)").rows == [("a\ufffd",)]


def test_a_missing_store_is_not_made(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="no store yet"):
        sql.query(tmp_path / "none.db", "SELECT 1")
    assert list(tmp_path.iterdir()) == []


def test_an_unknown_table_is_answered_with_those_that_there_are(db: Path) -> None:
    with pytest.raises(UsageError, match=r"no such table: runs; there are: run, attack_results, .*metric"):
        sql.query(db, "SELECT * FROM runs")
